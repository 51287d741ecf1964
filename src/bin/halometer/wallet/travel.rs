//! Moving a wallet to another device.

use std::path::PathBuf;
use std::process::ExitCode;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::json;

use super::say::say;
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::wallet::file::ArrivalCode;

/// The arguments of `halometer wallet export`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// The code that `import --prepare` printed on the other device.
    #[arg(long, value_name = "CODE")]
    pub to: String,

    /// The file to write. Only the other device can open it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// The arguments of `halometer wallet import`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// Make ready for a wallet, and print the code to export it to.
    #[arg(long, conflicts_with = "file")]
    pub prepare: bool,

    /// The file that was exported to the code. Take only one that you exported yourself.
    #[arg(value_name = "FILE", required_unless_present = "prepare")]
    pub file: Option<PathBuf>,
}

pub(super) fn export(place: &Place, args: &ExportArgs) -> Outcome {
    let code: ArrivalCode = args.to.parse()?;
    let file = place.existing()?;
    file.export(&place.lock()?, &code, &args.file, &mut UnwrapErr(SysRng))?;
    let out = args.file.display().to_string();
    let lines = [
        format!("the wallet is closed here for ever, and is in {out}"),
        "import that on the device that made the code".to_owned(),
    ];
    say(place.json, &json!({ "file": out, "closed": true }), lines)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(place: &Place, args: &ImportArgs) -> Outcome {
    let Some(bundle) = &args.file else { return prepare(place) };
    let file = place.new_file()?;
    bundle.metadata().map_err(|error| Trouble::disk(bundle, &error).next("name the file that `export` wrote"))?;
    let wallet = file.import(bundle, &place.new_lock()?, &mut UnwrapErr(SysRng))?;
    let (path, total) = (file.path().display().to_string(), wallet.balance().total());
    let line = format!(
        "{path} is the wallet now, worth {total} micro-credits; the file that it came from is of no use any more"
    );
    say(place.json, &json!({ "wallet": path, "total": total.to_string() }), [line])?;
    Ok(ExitCode::SUCCESS)
}

fn prepare(place: &Place) -> Outcome {
    let code = place.file()?.prepare(&mut UnwrapErr(SysRng))?.to_string();
    let lines = [code.clone(), format!("on the other device: halometer wallet export --to {code} FILE")];
    say(place.json, &json!({ "code": code }), lines)?;
    Ok(ExitCode::SUCCESS)
}
