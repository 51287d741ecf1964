//! Newer directories for a gateway whose issuer is elsewhere.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::timeout;

use super::adopt::Shared;
use super::there::Remote;
use crate::protocol::RootKey;

/// The shortest pause between two questions, however often somebody wants to know.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause while there is no answer: it is to be known soon that there is one again.
const AWAY: Duration = Duration::from_secs(5);

/// Asks for the directory again and again, and goes on under each that is newer, verified and follows. Ends with the gateway.
pub(super) async fn keep_fresh(shared: Weak<Shared>, remote: Arc<Remote>, root: RootKey, every: Duration) {
    let mut pause = every;
    loop {
        tokio::time::sleep(PAUSE).await;
        // At its time, or when something came that the present one does not explain.
        let _ = timeout(pause.saturating_sub(PAUSE), remote.stale()).await;
        let asked = remote.issuer().directory().await;
        remote.set_answers(asked.is_ok());
        pause = if asked.is_ok() { every } else { every.min(AWAY) };
        let signed = match asked {
            Ok(signed) => signed,
            Err(trouble) => {
                remote.complain(&trouble.to_string());
                continue;
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        // A signature and a thousand entries: not on an async thread.
        let verified = remote.run(move || signed.verify(&root).ok().map(|directory| (signed, directory))).await;
        let Ok(Some((signed, directory))) = verified else {
            remote.complain("the issuer shows a directory that his root key did not sign");
            continue;
        };
        if directory.digest() == remote.gateway().directory().digest() {
            continue;
        }
        // An older one, as a cache might show, changes nothing; nor does one that contradicts.
        if let Err(error) = shared.adopt_remote(&signed, directory) {
            remote.complain(&error.to_string());
        }
    }
}
