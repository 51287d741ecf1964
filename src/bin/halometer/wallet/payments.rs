//! The payments of a wallet.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::fund::{known, mint, payment};
use super::online::{Issuer, block_on};
use super::say::{amount, say, utc};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::protocol::{Credits, Fault, PaymentId};
use halometer::wallet::file::FileJournal;
use halometer::wallet::{PaymentEntry, Wallet};

/// The arguments of `halometer wallet payments`.
#[derive(Clone, Debug, clap::Args)]
pub struct PaymentsArgs {
    /// Take a payment off the list that the issuer does not mint: its number in the list, its id, or its reference. The issuer is asked
    /// for it once more, and if it did mint it the credit comes.
    #[arg(long, value_name = "PAYMENT")]
    pub forget: Option<String>,

    /// List those as well that were forgotten.
    #[arg(long)]
    pub all: bool,

    /// Where the issuer is, if not where the wallet has it from.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
}

pub(super) fn run(place: &Place, args: &PaymentsArgs) -> Outcome {
    let mut wallet = place.open()?;
    if let Some(text) = &args.forget {
        forget(&mut wallet, text, args.issuer.as_deref())?;
    }
    let mut payments: Vec<_> = wallet.payments().filter(|known| args.all || !known.forgotten).collect();
    payments.sort_by_key(|known| known.number);
    let value: Vec<Value> = payments
        .iter()
        .map(|known| {
            json!({
                "number": known.number,
                "payment": shown(known),
                "state": state(known),
                "amount": amount(sum(known)),
                "requested_at": known.requested_at.map(halometer::protocol::Timestamp::seconds),
            })
        })
        .collect();
    let header = format!("{:<6} {:>20}  {:<10} {:19}  payment", "number", "amount", "state", "asked for (UTC)");
    let rows = payments.iter().map(|known| {
        let at = known.requested_at.map_or_else(|| "-".to_owned(), utc);
        format!("{:<6} {:>20}  {:<10} {at:19}  {}", known.number, sum(known).grouped(), state(known), shown(known))
    });
    say(place.json, &value.into(), core::iter::once(header).chain(rows))?;
    Ok(ExitCode::SUCCESS)
}

/// Until it is minted, the whole id is worth the payment: only its beginning is shown.
fn shown(known: &PaymentEntry) -> String {
    let id = known.payment.to_string();
    if known.minted.is_some() { id } else { format!("{}...", &id[..8.min(id.len())]) }
}

fn sum(known: &PaymentEntry) -> Credits {
    Credits::checked_sum(known.amounts).unwrap_or_default()
}

const fn state(known: &PaymentEntry) -> &'static str {
    match (known.minted.is_some(), known.forgotten) {
        (true, _) => "minted",
        (false, true) => "forgotten",
        (false, false) => "not-minted",
    }
}

fn forget(wallet: &mut Wallet<FileJournal>, text: &str, issuer: Option<&str>) -> Result<(), Trouble> {
    let entry = find(wallet, text)?;
    if entry.minted.is_some() {
        return Err(halometer::wallet::PaymentError::Minted.into());
    }
    let issuer = Issuer::of(issuer, wallet)?;
    // If it was minted after all, forgetting it would cost its credit.
    match block_on(mint(wallet, &issuer, entry.payment, entry.amounts))? {
        Ok(()) => {
            let sum = known(wallet, &entry.payment).map(|known| sum(&known)).unwrap_or_default();
            eprintln!("halometer: the issuer had minted it: {} micro-credits came into the wallet", sum.grouped());
            Ok(())
        }
        Err(trouble) if trouble.is_refusal() => Ok(wallet.forget_payment(&entry.payment)?),
        Err(trouble) => Err(Trouble::new(format!("not forgotten: {}", trouble.what()), Fault::Nobody)
            .credit_words("as it was: whether the issuer has minted this payment is not known")
            .next("run the command again when the issuer answers")),
    }
}

fn find(wallet: &Wallet<FileJournal>, text: &str) -> Result<PaymentEntry, Trouble> {
    let by_number = text.parse::<u64>().ok().and_then(|number| wallet.payments().find(|known| known.number == number));
    let by_id = || payment(text).ok().and_then(|id: PaymentId| known(wallet, &id));
    by_number.or_else(by_id).ok_or_else(|| {
        Trouble::yours("the wallet has no such payment").next("`halometer wallet payments --all` lists them by number")
    })
}
