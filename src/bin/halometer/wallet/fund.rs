//! Turning a payment into credit.

use std::io::BufRead as _;
use std::process::ExitCode;

use serde_json::json;

use super::online::{Issuer, block_on, go_over};
use super::say::{amount, number, say};
use super::split::Split;
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::clock::now;
use halometer::http::payer::{ClientError, CreditState};
use halometer::protocol::{Credits, Fault, LANES, PaymentId, Problem, grouped};
use halometer::wallet::file::FileJournal;
use halometer::wallet::{PaymentEntry, Wallet};

/// The arguments of `halometer wallet fund`.
#[derive(Clone, Debug, clap::Args)]
pub struct FundArgs {
    /// The payment: its id, 64 hexadecimal digits, or the reference that the issuer knows it under; - reads either from standard
    /// input. Until the payment is minted, anyone that knows it can take it, so that - is the way on a machine with other users.
    #[arg(value_name = "PAYMENT")]
    pub payment: String,

    /// What was paid, micro-credits.
    #[arg(value_name = "AMOUNT")]
    pub amount: u64,

    /// Over how many lanes the credit is spread, 1 to 8. Each lane pays for one call at a time. Without it as many as can each pay for a
    /// typical call.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=LANES as i64))]
    pub lanes: Option<u32>,

    /// Where the issuer is, if not where the wallet has it from.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
}

pub(super) fn run(place: &Place, args: &FundArgs) -> Outcome {
    let payment = payment(&args.payment)?;
    let paid = Credits::from_micro(args.amount);
    if paid.is_zero() {
        return Err(Trouble::yours("the amount is 0").next("give the amount that was paid"));
    }
    let mut wallet = place.open()?;
    let issuer = Issuer::of(args.issuer.as_deref(), &wallet)?;
    let before = known(&wallet, &payment);
    let minted_before = before.as_ref().is_some_and(|known| known.minted.is_some());
    if let Some(known) = before.as_ref().filter(|_| minted_before)
        && Credits::checked_sum(known.amounts) != Some(paid)
    {
        return Err(Trouble::yours("the payment was minted with other amounts")
            .credit_words(format!(
                "in this wallet: the payment was worth {}",
                Credits::checked_sum(known.amounts).unwrap_or_default().grouped()
            ))
            .next("nothing is left to do; `halometer wallet payments` lists what was minted"));
    }
    if !minted_before {
        // However it was spread the first time, if the amount is the same.
        let same = before.map(|known| known.amounts).filter(|amounts| Credits::checked_sum(*amounts) == Some(paid));
        let (split, directory_known) = match same {
            Some(amounts) => (Split::known(amounts, wallet.directory(), now()), true),
            None => (split(&wallet, paid, args.lanes)?, false),
        };
        let split = split.ok_or_else(no_class)?;
        if !directory_known && let Some(warning) = split.warning() {
            eprintln!("halometer: {warning}");
        }
        block_on(mint(&mut wallet, &issuer, payment, split.amounts))??;
    }
    let amounts = known(&wallet, &payment).map_or([Credits::ZERO; LANES], |known| known.amounts);
    let minted = Credits::checked_sum(amounts).unwrap_or_default();
    let split = Split::known(amounts, wallet.directory(), now()).ok_or_else(no_class)?;
    let total = wallet.balance_at(now(), 0).total();
    let value = json!({
        "amount": minted.to_string(),
        "lanes": split.lanes,
        "amounts": amounts.iter().filter(|amount| !amount.is_zero()).map(ToString::to_string).collect::<Vec<_>>(),
        "class": split.class.map(amount),
        "warning": split.warning(),
        "already_minted": minted_before,
        "total": total.to_string(),
    });
    let total = number(&total.to_string());
    let mut lines = Vec::new();
    if minted_before {
        lines.push(format!("this payment was minted before; the wallet is worth {total} micro-credits"));
    } else {
        if minted != paid {
            lines.push(format!("the issuer had minted this payment with {} already", minted.grouped()));
        }
        lines.push(format!(
            "{} micro-credits in lanes of {}; the wallet is worth {total}",
            minted.grouped(),
            split.words()
        ));
        lines.extend(split.class.map(|class| format!("each of them can pay class {}", class.grouped())));
    }
    say(place.json, &value, lines)?;
    Ok(ExitCode::SUCCESS)
}

fn no_class() -> Trouble {
    Trouble::new("the issuer's directory has no charge class", Fault::Operator).next("tell the issuer")
}

pub(super) fn known(wallet: &Wallet<FileJournal>, payment: &PaymentId) -> Option<PaymentEntry> {
    wallet.payments().find(|known| known.payment == *payment)
}

/// The lanes for a payment that is new: what is asked for, unless it could pay nothing.
fn split(wallet: &Wallet<FileJournal>, paid: Credits, lanes: Option<u32>) -> Result<Option<Split>, Trouble> {
    let directory = wallet.directory();
    let Some(lanes) = lanes else { return Ok(Split::choose(paid, directory, now())) };
    let split = Split::exactly(lanes, paid, directory, now());
    let most = Split::most_lanes(paid, directory);
    match split {
        Some(split) if split.class.is_none() && u64::from(lanes) > most => {
            let each = split.amounts.iter().filter(|amount| !amount.is_zero()).min().copied().unwrap_or_default();
            let least = directory.classes().iter().min().copied().unwrap_or_default();
            Err(Trouble::yours(format!(
                "{lanes} lanes would have {} each and could pay nothing: the smallest charge class is {}",
                each.grouped(),
                least.grouped()
            ))
            .next(format!("leave out --lanes, or ask for {most} at most")))
        }
        split => Ok(split),
    }
}

/// Asks for it, with what was asked for before first: what the issuer refused binds nothing, and what it minted is not lost.
pub(super) async fn mint(
    wallet: &mut Wallet<FileJournal>,
    issuer: &Issuer,
    payment: PaymentId,
    amounts: [Credits; LANES],
) -> Result<(), Trouble> {
    // The epoch that issues may have come since.
    go_over(wallet, &issuer.directory().await?)?;
    // It is in the file before anybody sees it, so that an answer that is lost is asked for again.
    let requests = wallet.request_mint_anew(payment, amounts, now())?;
    let response =
        issuer.client().mint_one_of(issuer.url(), &requests).await.map_err(|error| refused(issuer, error))?;
    Ok(wallet.accept_mint(&payment, &response, now())?)
}

/// Why the issuer does not mint, where the credit is, and what helps.
fn refused(issuer: &Issuer, error: ClientError) -> Trouble {
    let with_issuer = "with the issuer, if it was paid: nothing was minted, and nothing is bound by having asked";
    let details = match &error {
        ClientError::Problem(details) if details.kind().is_some() => details,
        _ => {
            return issuer
                .trouble(error)
                .credit(CreditState::Safe)
                .credit_words("asked for: if the issuer has minted it, the same command brings it into this wallet");
        }
    };
    let trouble = match (details.kind(), &details.paid) {
        (Some(Problem::Unpaid), _) => {
            Trouble::new("the issuer does not know of this payment, or not as final yet", Fault::Nobody).next(
                "look at the reference; wait until the payment is final, then run the command again, with another amount if \
                 that was wrong; `halometer wallet payments --forget PAYMENT` takes it off the list",
            )
        }
        (Some(Problem::Malformed), Some(paid)) => {
            Trouble::yours(format!("the issuer knows this payment with {} micro-credits", grouped(paid.get().into())))
                .next("run `fund` again with that amount")
        }
        (Some(Problem::Malformed), None) => {
            let what = details.detail.clone().unwrap_or_else(|| details.title.to_string());
            return Trouble::yours(format!("the issuer refuses: {what}"))
                .refusal()
                .credit(CreditState::Safe)
                .credit_words("not here: nothing of this payment came into this wallet")
                .next(
                    "look in your other wallets, and in other copies of this one: the one that asked first has it; if none \
                     of them did, tell the issuer",
                );
        }
        _ => {
            return issuer
                .trouble(error)
                .credit(CreditState::Safe)
                .credit_words(with_issuer)
                .next("run the same command again later");
        }
    };
    trouble.refusal().credit(CreditState::Safe).credit_words(with_issuer)
}

pub(super) fn payment(text: &str) -> Result<PaymentId, Trouble> {
    let mut line = String::new();
    let text = match text {
        "-" => {
            let read = std::io::Read::take(std::io::stdin().lock(), 4096).read_line(&mut line);
            read.map_err(|error| Trouble::yours(format!("cannot read the payment from standard input: {error}")))?;
            line.trim()
        }
        text => text,
    };
    if text.is_empty() {
        return Err(Trouble::yours("the payment is empty").next("give its id or reference"));
    }
    Ok(text.to_ascii_lowercase().parse().unwrap_or_else(|_| PaymentId::of_reference(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_is_an_id_or_a_reference() {
        let id = "AB".repeat(32);
        assert_eq!(payment(&id).unwrap().to_string(), id.to_lowercase());
        assert_eq!(payment("invoice 7").unwrap(), PaymentId::of_reference(b"invoice 7"));
        assert!(payment("").is_err());
    }
}
