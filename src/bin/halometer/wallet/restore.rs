//! A wallet back from its 24 words.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::online::{ISSUER, Issuer, block_on, client};
use super::say::{amount, say, utc};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::cause::chain;
use halometer::http::clock::now;
use halometer::http::payer::{ClientError, RestoreFrom, RestoreTrouble};
use halometer::protocol::{Credits, DeviceId, Digest, Fault, RootKey};
use halometer::sealed::read_bounded;
use halometer::wallet::file::WalletFileError;
use halometer::wallet::{
    LaneFound, OpenError, Restore, RestoreError, RestoreOptions, Restored, RootSecret, WordsError,
};

/// Longest file that words are read from, bytes.
const LONGEST: usize = 4096;
/// How long a call that is still being worked on is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What has to be typed.
const SENTENCE: &str = "no other copy";

/// The arguments of `halometer wallet restore`.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// Where the issuer is, as in `https://issuer.example`.
    #[arg(long, value_name = "URL")]
    pub issuer: String,

    /// The issuer's root key, 64 hexadecimal digits, from a place that you trust and not from the issuer's server.
    #[arg(long, value_name = "HEX")]
    pub root_key: Digest,

    /// Read the words from this file, - for standard input. Without it they are asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub words_file: Option<PathBuf>,

    /// The device of a wallet that an earlier release made: `wallet words` and `wallet doctor` show it. Can be given several times.
    #[arg(long, value_name = "HEX")]
    pub device: Vec<DeviceId>,

    /// Hold what is restored until its epoch issues no more, as long as that leaves two days to roll it over, and not only for the
    /// hours in which spends that were sent expire. For when a gateway that you do not trust may have kept one back.
    #[arg(long)]
    pub until_epoch_ends: bool,

    /// The confirmation that the lost wallet will never run again, for scripts.
    #[arg(long)]
    pub yes_no_other_copy_will_ever_run: bool,
}

pub(super) fn run(place: &Place, args: &RestoreArgs) -> Outcome {
    let issuer = Issuer::at(&args.issuer)?;
    let root_key = RootKey::from_bytes(&args.root_key.to_bytes()).ok_or_else(|| {
        Trouble::yours("the root key is no Ed25519 key").next("copy it again from where the issuer publishes it")
    })?;
    let file = place.new_file()?;
    // Before anybody is asked for anything.
    if file.path().symlink_metadata().is_ok() {
        return Err(WalletFileError::Exists.into());
    }
    let root = RootSecret::from_words(&words(args.words_file.as_deref())?)?;
    if !args.yes_no_other_copy_will_ever_run {
        confirm()?;
    }
    let lock = place.new_lock()?;
    let (restored, silent) = block_on(find(&issuer, root_key, root, args))??;
    let path = file.path().display().to_string();
    let (value, lines) = (found(&restored, &silent, &path), lines(&restored, &silent, &path));
    let is_lost = |found: &LaneFound| matches!(found, LaneFound::Contested) || !lost(found).is_zero();
    let whole = !restored.lanes().iter().any(|lane| is_lost(&lane.found));
    let wallet = file.restore(&lock, restored, &mut UnwrapErr(SysRng))?;
    wallet.journal().put_note(ISSUER, issuer.url())?;
    say(place.json, &value, lines)?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Asks until all is known. Nothing is written: whatever ends it, it can be begun again.
async fn find(
    issuer: &Issuer,
    pinned: RootKey,
    root: RootSecret,
    args: &RestoreArgs,
) -> Result<(Restored, Vec<String>), Trouble> {
    let shown = issuer.directory().await?;
    let directory = shown.verify(&pinned).map_err(OpenError::from)?;
    directory.check_current(now()).map_err(OpenError::from)?;
    let options = RestoreOptions { devices: args.device.clone(), until_epoch_ends: args.until_epoch_ends };
    let mut restore = Restore::new(root, pinned, &shown, &options, now())?;
    let first = |gateway: &halometer::protocol::GatewayEntry| gateway.origins.first().cloned();
    let gateways: Vec<_> = directory.parts().gateways.iter().filter_map(first).collect();
    let client = client(gateways.iter().map(String::as_str).chain([issuer.url()]))?;
    let from = RestoreFrom { issuer: issuer.url().to_owned(), gateways, patience: PATIENCE };
    let watched = std::io::stderr().is_terminal();
    let outcome = from
        .run(&client, &mut restore, |restore| {
            let (done, lanes) = restore.progress();
            if watched {
                eprint!("\rlooking: {done} of {lanes} lanes ");
                let _ = std::io::stderr().flush();
            }
        })
        .await;
    if watched {
        eprintln!();
    }
    let silent = outcome?;
    Ok((restore.finish(now(), &mut UnwrapErr(SysRng))?, silent))
}

fn words(file: Option<&Path>) -> Result<Zeroizing<String>, Trouble> {
    let next = "name a file that holds the 24 words and nothing else with --words-file";
    match file {
        Some(path) if path == Path::new("-") => {
            let mut text = Zeroizing::new(String::with_capacity(LONGEST));
            let read = std::io::stdin().lock().take(LONGEST as u64).read_to_string(&mut text);
            read.map_err(|error| Trouble::yours(format!("cannot read the words from standard input: {error}")))?;
            Ok(text)
        }
        Some(path) => {
            let bytes = read_bounded(path, LONGEST).map_err(|error| Trouble::disk(path, &error).next(next))?;
            let text = core::str::from_utf8(&bytes)
                .map_err(|_| Trouble::yours(format!("{}: the words are not UTF-8 text", path.display())).next(next))?;
            Ok(Zeroizing::new(text.to_owned()))
        }
        None if std::io::stdin().is_terminal() => asked(),
        None => Err(Trouble::yours("there is no terminal to ask for the words on").next(next)),
    }
}

/// Reads lines until there are 24 words.
fn asked() -> Result<Zeroizing<String>, Trouble> {
    eprintln!("The 24 words of the wallet, in their order, in one line or several:");
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    while text.split_whitespace().count() < 24 && text.len() < LONGEST {
        let before = text.len();
        let read = std::io::stdin().lock().take((LONGEST - before) as u64).read_line(&mut text);
        read.map_err(|error| Trouble::yours(format!("cannot read the words: {error}")))?;
        // An empty line ends it, as the end does.
        if text[before..].trim().is_empty() {
            break;
        }
    }
    Ok(text)
}

fn confirm() -> Result<(), Trouble> {
    let not = "not restored: it was not confirmed that the lost wallet will never run again";
    let next = "confirm it on a terminal, or with --yes-no-other-copy-will-ever-run, if it is so";
    if !std::io::stdin().is_terminal() {
        return Err(Trouble::yours(not).next(next));
    }
    eprintln!(
        "If the lost wallet or another copy of it runs again, a note may be spent twice: that reveals the account."
    );
    eprint!("To restore it here, type `{SENTENCE}`: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == SENTENCE { Ok(()) } else { Err(Trouble::yours(not).next(next)) }
}

/// What of a lane is not in the restored wallet.
fn lost(found: &LaneFound) -> Credits {
    match found {
        LaneFound::Void { at_most } => *at_most,
        LaneFound::Running { rest } | LaneFound::Untold { rest } => *rest,
        _ => Credits::ZERO,
    }
}

const fn state(found: &LaneFound) -> &'static str {
    match found {
        LaneFound::Mint { .. } | LaneFound::Change { .. } => "restored",
        LaneFound::Void { .. } => "void",
        LaneFound::Running { .. } => "running",
        LaneFound::Untold { .. } => "untold",
        LaneFound::Contested => "contested",
        _ => "unknown",
    }
}

fn sum(restored: &Restored, of: &str) -> u128 {
    let lanes = restored.lanes().iter().filter(|lane| state(&lane.found) == of);
    lanes.map(|lane| u128::from(lane.found.available().micro()) + u128::from(lost(&lane.found).micro())).sum()
}

fn found(restored: &Restored, silent: &[String], path: &str) -> Value {
    let lanes = restored.lanes().iter().map(|lane| {
        json!({
            "lane": lane.lane.to_string(),
            "state": state(&lane.found),
            "value": amount(lane.found.available()),
            "lost": amount(lost(&lane.found)),
        })
    });
    json!({
        "wallet": path,
        "payments": restored.payments(),
        "total": sum(restored, "restored").to_string(),
        "void": sum(restored, "void").to_string(),
        "running": sum(restored, "running").to_string(),
        "untold": sum(restored, "untold").to_string(),
        "held_until": restored.held_until().seconds(),
        "silent": silent,
        "lanes": lanes.collect::<Vec<_>>(),
    })
}

fn lines(restored: &Restored, silent: &[String], path: &str) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{path} is the wallet now: {} payments, worth {} micro-credits",
            restored.payments(),
            sum(restored, "restored")
        ),
        format!(
            "nothing of before is spent before {} UTC: spends of the lost wallet may still arrive",
            utc(restored.held_until())
        ),
        "new payments can be used at once; with the lost wallet nothing may be done any more".to_owned(),
    ];
    let mut more = |of: &str, words: &str| {
        let lost = sum(restored, of);
        if lost > 0 {
            lines.push(format!("{lost} micro-credits {words}"));
        }
    };
    more("void", "or less are void: their epoch is over. Ask the issuer whether it makes up for that");
    more(
        "running",
        "and more are in calls that are still being worked on: restore again, into another file, when they are over",
    );
    more("untold", "and more cannot be had: an earlier release made the last spends of their lanes");
    let contested = restored.lanes().iter().filter(|lane| matches!(lane.found, LaneFound::Contested)).count();
    if contested > 0 {
        lines.push(format!(
            "{contested} lanes are left alone: their last notes are said to be spent, and nobody has what came of it"
        ));
    }
    for party in silent {
        lines.push(format!("{party} did not answer: a spend that the others hide would not have been found"));
    }
    lines
}

impl From<WordsError> for Trouble {
    fn from(error: WordsError) -> Self {
        Self::yours(error.to_string()).next("compare with what was written down, and run the command again")
    }
}

impl From<RestoreError> for Trouble {
    fn from(error: RestoreError) -> Self {
        let (fault, next) = match error {
            RestoreError::Directory(error) => return OpenError::from(error).into(),
            RestoreError::Nothing => {
                (Fault::Caller, "compare words, issuer and root key; see --device for old wallets")
            }
            _ => (Fault::Operator, "run the command again; if it stays so, take it to the issuer"),
        };
        Self::new(chain(&error), fault).next(next)
    }
}

impl From<RestoreTrouble> for Trouble {
    fn from(trouble: RestoreTrouble) -> Self {
        match trouble {
            RestoreTrouble::Refused(error) => error.into(),
            RestoreTrouble::Client { party, error } => {
                let fault = match &error {
                    ClientError::Http(_) | ClientError::Timeout => Fault::Nobody,
                    ClientError::Tls(_) => Fault::Caller,
                    _ => Fault::Operator,
                };
                let what = format!("{party} does not say what is asked: {}", chain(&error));
                Self::new(what, fault).next("run the command again; nothing was written")
            }
            other => Self::new(chain(&other), Fault::Operator),
        }
    }
}
