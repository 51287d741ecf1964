//! Making a wallet.

use std::path::PathBuf;
use std::process::ExitCode;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::json;

use super::online::{Issuer, block_on};
use super::say::{amount, say, utc};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::clock::now;
use halometer::protocol::{Digest, RootKey, SignedDirectory};
use halometer::wallet::file::WalletFileError;

/// The arguments of `halometer wallet new`.
#[derive(Clone, Debug, clap::Args)]
pub struct NewArgs {
    /// Where the issuer is, as in `https://issuer.example`. It is kept in the wallet's file, sealed, for `fund` and `doctor`.
    #[arg(long, value_name = "URL")]
    pub issuer: String,

    /// The issuer's root key, 64 hexadecimal digits, from a place that you trust and not from the issuer's server.
    #[arg(long, value_name = "HEX")]
    pub root_key: Digest,

    /// Take the issuer's signed directory from this file and not from its server.
    #[arg(long, value_name = "FILE")]
    pub directory: Option<PathBuf>,
}

pub(super) fn run(place: &Place, args: &NewArgs) -> Outcome {
    let issuer = Issuer::at(&args.issuer)?;
    let root = RootKey::from_bytes(&args.root_key.to_bytes()).ok_or_else(|| {
        Trouble::yours("the root key is no Ed25519 key").next("copy it again from where the issuer publishes it")
    })?;
    let file = place.new_file()?;
    // Before anybody is asked for a passphrase.
    if file.path().symlink_metadata().is_ok() {
        return Err(WalletFileError::Exists.into());
    }
    let signed = match &args.directory {
        Some(path) => {
            let bytes = halometer::sealed::read_bounded(path, SignedDirectory::MAX_LENGTH)
                .map_err(|error| Trouble::disk(path, &error))?;
            SignedDirectory::from_bytes(&bytes).map_err(|error| {
                Trouble::yours(format!("{}: {error}", path.display())).next("name the file of a signed directory")
            })?
        }
        None => block_on(issuer.directory())??,
    };
    let directory = signed.verify(&root).map_err(halometer::wallet::OpenError::from)?;
    // One that is shown for the first time must be the one that everybody is shown now.
    if args.directory.is_none() {
        directory.check_current(now()).map_err(halometer::wallet::OpenError::from)?;
    }
    let wallet = file.create(&place.new_lock()?, root, &signed, &mut UnwrapErr(SysRng))?;
    wallet.journal().put_note(super::online::ISSUER, issuer.url())?;

    let gateways: Vec<_> = directory.parts().gateways.iter().collect();
    let classes: Vec<_> = directory.classes().iter().map(|class| amount(*class)).collect();
    let value = json!({
        "wallet": file.path().display().to_string(),
        "issuer": directory.issuer().to_string(),
        "issuer_url": issuer.url(),
        "root_key": args.root_key.to_string(),
        "directory": directory.digest().to_string(),
        "serial": directory.parts().serial,
        "gateways": gateways.iter().map(|gateway| gateway.id.to_string()).collect::<Vec<_>>(),
        "classes": classes,
    });
    let mut lines = vec![
        format!("made {}", file.path().display()),
        format!("  issuer     {}", issuer.url()),
        format!("  root key   {} (pinned: nothing that it has not signed is believed)", args.root_key),
        format!(
            "  directory  number {} of {} UTC, digest {}",
            directory.parts().serial,
            utc(directory.parts().published),
            directory.digest()
        ),
    ];
    lines.extend(
        gateways.iter().map(|gateway| format!("  gateway    {} at {}", gateway.id, gateway.origins.join(", "))),
    );
    lines.push(
        "Everyone that uses this issuer should see the same digest: compare it with what others publish.".to_owned(),
    );
    if directory.grid().is_for_development() {
        lines.push(super::DEVELOPMENT.to_owned());
    }
    lines.push("Write these 24 words down, in their order, and show them to nobody: they are the wallet.".to_owned());
    lines.push(
        "`halometer wallet restore` makes it again from them, `halometer wallet words` shows them again.".to_owned(),
    );
    lines.extend(super::words::lines(&wallet));
    say(place.json, &value, lines)?;
    Ok(ExitCode::SUCCESS)
}
