//! What the wallet has against a gateway or the issuer.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::say::{say, utc};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::sealed::write_atomically;
use halometer::wallet::{Dispute, DisputeKind, Journal as _};

/// The arguments of `halometer wallet disputes`.
#[derive(Clone, Debug, clap::Args)]
pub struct DisputesArgs {
    /// Write each into a file of this directory, and the issuer's signed statement of each payment, which shows what account is yours. The gateway knows the call again by what is in it: show it to nobody who may not
    /// know of that call.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

pub(super) fn run(place: &Place, args: &DisputesArgs) -> Outcome {
    let wallet = place.open()?;
    let disputes = wallet.journal().disputes()?;
    let mut files = Vec::new();
    if let Some(directory) = &args.save {
        std::fs::create_dir_all(directory).map_err(|error| Trouble::disk(directory, &error))?;
        for (number, dispute) in disputes.iter().enumerate() {
            let path = directory.join(format!("dispute-{number}-{}.json", name(dispute.kind)));
            write_atomically(&path, dispute.to_json().as_bytes()).map_err(|error| Trouble::disk(&path, &error))?;
            files.push(path.display().to_string());
        }
    }
    let mut statements = Vec::new();
    if let Some(directory) = &args.save {
        for payment in wallet.payments() {
            let Some(statement) = wallet.mint_statement(&payment.payment) else { continue };
            let path = directory.join(format!("mint-{}.bin", payment.number));
            write_atomically(&path, &statement.to_bytes()).map_err(|error| Trouble::disk(&path, &error))?;
            statements.push(path.display().to_string());
        }
    }
    let row = |(number, dispute): (usize, &Dispute)| {
        json!({
            "number": number,
            "kind": name(dispute.kind),
            "at": dispute.at.seconds(),
            "gateway": dispute.gateway.map(|gateway| gateway.to_string()),
            "shown_to_anyone": dispute.kind.is_shown(),
            "file": files.get(number),
        })
    };
    let value: Vec<_> = disputes.iter().enumerate().map(row).collect();
    let line = |(number, dispute): (usize, &Dispute)| {
        let whose = dispute.gateway.map_or_else(|| "the issuer".to_owned(), |gateway| format!("gateway {gateway}"));
        let file = files.get(number).map(|file| format!(", in {file}")).unwrap_or_default();
        format!("{number}  {}  {whose}: {}{file}", utc(dispute.at), words(dispute.kind))
    };
    let mut lines: Vec<_> = disputes.iter().enumerate().map(line).collect();
    if lines.is_empty() {
        lines.push("no disputes".to_owned());
    }
    if !statements.is_empty() {
        lines.push(format!("what the issuer signed of {} payments is kept beside: mint-*.bin", statements.len()));
    }
    say(place.json, &value.into(), lines)?;
    Ok(ExitCode::SUCCESS)
}

/// For scripts, as in the file.
pub(super) fn name(kind: DisputeKind) -> String {
    serde_json::to_value(kind).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// For people.
pub(super) const fn words(kind: DisputeKind) -> &'static str {
    match kind {
        DisputeKind::Overcharged => "took more than its tariff says; its signature shows it",
        DisputeKind::Contradicted => "signed a receipt of another cost than was settled; two signatures show it",
        DisputeKind::TwoDirectories => "signed two directories that contradict each other",
        DisputeKind::WrongEpoch => "signed under an epoch that did not issue at that time",
        DisputeKind::BadSettlement => "gave a settlement that is none",
        DisputeKind::Denied => "says that a note was spent otherwise: a copy of this wallet runs, or it lies",
        DisputeKind::Withheld => "gives neither settlement nor cancel",
        DisputeKind::Lost => {
            "lost a spend that it settled: its set was put back or lost records, so that spent notes can be spent again"
        }
        _ => "did what this program has no word for",
    }
}
