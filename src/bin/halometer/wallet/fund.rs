//! Turning a payment into credit.

use std::io::BufRead as _;
use std::process::ExitCode;

use serde_json::json;

use super::online::{Issuer, block_on, go_over};
use super::say::say;
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::clock::now;
use halometer::http::payer::{ClientError, CreditState};
use halometer::protocol::{Credits, Fault, LANES, PaymentId, Problem};
use halometer::wallet::Wallet;
use halometer::wallet::file::FileJournal;

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

    /// Over how many lanes the credit is spread, 1 to 8. Each lane pays for one call at a time.
    #[arg(long, value_name = "N", default_value_t = LANES as u32, value_parser = clap::value_parser!(u32).range(1..=LANES as i64))]
    pub lanes: u32,

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
    let known = wallet.payments().find(|known| known.payment == payment);
    let minted_before = known.as_ref().is_some_and(|known| known.minted.is_some());
    let amounts = match &known {
        // However it was spread the first time: the issuer mints a payment in one way only.
        Some(known) if Credits::checked_sum(known.amounts) == Some(paid) => known.amounts,
        Some(_) => return Err(halometer::wallet::PaymentError::OtherAmounts.into()),
        None => spread(paid, args.lanes, wallet.directory().quantum()),
    };
    if !minted_before {
        block_on(mint(&mut wallet, &issuer, payment, amounts))??;
    }
    let lanes = amounts.iter().filter(|amount| !amount.is_zero()).count();
    let total = wallet.balance().total();
    let value = json!({
        "amount": paid.to_string(),
        "lanes": lanes,
        "already_minted": minted_before,
        "total": total.to_string(),
    });
    let line = match minted_before {
        true => format!("this payment was minted before; the wallet is worth {total} micro-credits"),
        false => format!("{paid} micro-credits on {lanes} lanes; the wallet is worth {total}"),
    };
    say(place.json, &value, [line])?;
    Ok(ExitCode::SUCCESS)
}

async fn mint(
    wallet: &mut Wallet<FileJournal>,
    issuer: &Issuer,
    payment: PaymentId,
    amounts: [Credits; LANES],
) -> Result<(), Trouble> {
    // The epoch that issues may have come since.
    go_over(wallet, &issuer.directory().await?)?;
    // It is in the file before anybody sees it, so that an answer that is lost is asked for again.
    let request = wallet.request_mint(payment, amounts, now())?;
    let response = issuer.client().mint(issuer.url(), &request).await.map_err(|error| refused(issuer, error))?;
    Ok(wallet.accept_mint(&payment, &response, now())?)
}

/// Why the issuer does not mint. The same request can be sent again in any case.
fn refused(issuer: &Issuer, error: ClientError) -> Trouble {
    let unpaid = matches!(&error, ClientError::Problem(details) if details.kind() == Some(Problem::Unpaid));
    let trouble = match unpaid {
        true => Trouble::new("the issuer does not know of this payment, or not as final yet", Fault::Nobody)
            .next("look at the reference; wait until the payment is final, then run the same command again"),
        false => issuer.trouble(error),
    };
    trouble.credit(CreditState::Safe)
}

fn payment(text: &str) -> Result<PaymentId, Trouble> {
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

/// Evenly, on the quantum; what does not go up is the first lane's.
fn spread(paid: Credits, lanes: u32, quantum: Credits) -> [Credits; LANES] {
    let (lanes, quantum) = (u64::from(lanes.max(1)), quantum.micro().max(1));
    let each = paid.micro() / lanes / quantum * quantum;
    core::array::from_fn(|lane| {
        Credits::from_micro(match lane as u64 {
            0 => paid.micro() - each * (lanes - 1),
            lane if lane < lanes => each,
            _ => 0,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_spread_on_the_quantum_and_none_is_lost() {
        for (paid, lanes, quantum) in [(100, 8, 1), (100, 8, 10), (7, 8, 5), (u64::MAX, 3, 1), (1, 1, 1), (999, 7, 100)]
        {
            let amounts = spread(Credits::from_micro(paid), lanes, Credits::from_micro(quantum));
            assert_eq!(Credits::checked_sum(amounts), Some(Credits::from_micro(paid)));
            assert!(amounts[1..].iter().all(|amount| amount.is_multiple_of(Credits::from_micro(quantum))));
            assert!(amounts[lanes as usize..].iter().all(|amount| amount.is_zero()));
        }
    }

    #[test]
    fn a_payment_is_an_id_or_a_reference() {
        let id = "AB".repeat(32);
        assert_eq!(payment(&id).unwrap().to_string(), id.to_lowercase());
        assert_eq!(payment("invoice 7").unwrap(), PaymentId::of_reference(b"invoice 7"));
        assert!(payment("").is_err());
    }
}
