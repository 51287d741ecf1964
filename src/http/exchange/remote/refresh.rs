//! Newer directories for a gateway whose issuer is elsewhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::IssuerLink;
use crate::http::cause::chain;
use crate::http::exchange::adopt::AdoptError;
use crate::protocol::{Directory, DirectoryError, RootKey, SignedDirectory};

/// The shortest pause between two questions, however often somebody wants to know.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while there is no answer: it is to be known soon that there is one again.
const AWAY: Duration = Duration::from_secs(5);

/// Goes on under a newer directory. None once the gateway is gone.
type Adopt = dyn Fn(&SignedDirectory, Directory) -> Option<Result<(), AdoptError>> + Send + Sync;

/// Asks for the directory again and again, and goes on under each that is newer, verified and follows. Ends with the gateway.
pub(in crate::http::exchange) async fn keep_fresh(
    link: Arc<IssuerLink>,
    root: RootKey,
    every: Duration,
    adopt: Box<Adopt>,
) {
    let mut pause = every;
    loop {
        tokio::time::sleep(PAUSE).await;
        // At its time, or when something came that the present one does not explain.
        let _ = timeout(pause.saturating_sub(PAUSE), link.stale()).await;
        let trouble = look(&link, root, &*adopt).await;
        link.set_trouble(trouble);
        pause = if trouble.is_none() { every } else { every.min(AWAY) };
    }
}

/// Asks once. What keeps calls from being taken.
async fn look(link: &IssuerLink, root: RootKey, adopt: &Adopt) -> Option<&'static str> {
    let signed = match link.issuer().directory().await {
        Ok(signed) => signed,
        Err(trouble) => {
            link.complain(&chain(&trouble));
            return Some("the issuer does not answer");
        }
    };
    // A signature and a thousand entries: not on an async thread.
    let verified = link.run(move || signed.verify(&root).ok().map(|directory| (signed, directory))).await;
    let Ok(Some((signed, directory))) = verified else {
        link.complain("the issuer shows a directory that its root key did not sign");
        return Some("the issuer's directory is not signed by its root key");
    };
    if directory.digest() == link.gateway().directory().digest() {
        return None;
    }
    let error = adopt(&signed, directory)?.err()?;
    link.complain(&error.to_string());
    Some(match error {
        // As a cache might show.
        AdoptError::Directory(DirectoryError::Stale) => return None,
        AdoptError::Directory(_) => "the issuer's directory contradicts the one before",
        AdoptError::NotNamed => "the issuer's directory does not name this gateway",
        AdoptError::Key => "the issuer's directory names another key for this gateway",
        _ => "the issuer's directory cannot be gone by",
    })
}
