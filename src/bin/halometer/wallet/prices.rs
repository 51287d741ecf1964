//! What calls cost.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::neighbour::{self, Question};
use super::say::{number, say, utc};
use super::{Outcome, Place};
use halometer::http::clock::now;
use halometer::http::pricing::{INPUT_TOKEN, OUTPUT_TOKEN};
use halometer::protocol::{Credits, Directory, Tariff, Timestamp};

/// Tokens of a typical call: a page of text, and an answer of half a page.
pub(super) const TYPICAL: (u64, u64) = (1_000, 500);

/// The tariff, as a directory has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PricesReport {
    prices: Vec<PriceReport>,
    quantum: String,
    classes: Vec<ClassReport>,
    valid_until: Option<u64>,
    typical: Option<TypicalReport>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PriceReport {
    item: String,
    credits: String,
    per: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ClassReport {
    class: String,
    /// The tokens of answers that it pays for, with the request of a typical call.
    output_tokens: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TypicalReport {
    input_tokens: String,
    output_tokens: String,
    cost: String,
    class: Option<String>,
}

/// What a typical call costs by a tariff with prices for tokens.
pub(super) fn typical(tariff: &Tariff, quantum: Credits) -> Option<Credits> {
    tariff.price(OUTPUT_TOKEN).or_else(|| tariff.price(INPUT_TOKEN))?;
    tariff.cost([(INPUT_TOKEN, TYPICAL.0), (OUTPUT_TOKEN, TYPICAL.1)], quantum).ok()
}

impl PricesReport {
    pub(crate) fn of(directory: &Directory, now: Timestamp) -> Self {
        let (tariff, quantum) = (directory.callers_tariff(now), directory.quantum());
        let mut classes = directory.classes().to_vec();
        classes.sort();
        let cost = tariff.and_then(|tariff| typical(tariff, quantum));
        let typical = cost.map(|cost| TypicalReport {
            input_tokens: TYPICAL.0.to_string(),
            output_tokens: TYPICAL.1.to_string(),
            cost: cost.to_string(),
            class: classes.iter().find(|class| **class >= cost).map(ToString::to_string),
        });
        let output = |class: &Credits| {
            let tariff = tariff?;
            let price = tariff.price(OUTPUT_TOKEN).filter(|price| !price.credits.is_zero())?;
            let input = tariff.cost([(INPUT_TOKEN, TYPICAL.0)], quantum).ok()?;
            let left = u128::from(class.checked_sub(input)?.micro());
            Some((left * u128::from(price.per) / u128::from(price.credits.micro())).to_string())
        };
        let prices = tariff.map(Tariff::prices).unwrap_or_default().iter().map(|price| PriceReport {
            item: price.item.clone(),
            credits: price.credits.to_string(),
            per: price.per.to_string(),
        });
        Self {
            prices: prices.collect(),
            quantum: quantum.to_string(),
            classes: classes
                .iter()
                .map(|class| ClassReport { class: class.to_string(), output_tokens: output(class) })
                .collect(),
            valid_until: tariff.map(|tariff| tariff.valid().until.seconds()),
            typical,
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:<32} {:>20}  for", "item", "micro-credits")];
        if self.prices.is_empty() {
            lines.push("no tariff holds now: fetch the directory with `doctor`".to_owned());
        }
        for PriceReport { item, credits, per } in &self.prices {
            lines.push(format!("{item:<32} {:>20}  {}", number(credits), number(per)));
        }
        lines.push(format!("a call costs a multiple of {} micro-credits", number(&self.quantum)));
        if let Some(TypicalReport { input_tokens, output_tokens, cost, class }) = &self.typical {
            let class = match class {
                Some(class) => format!("class {} pays for it", number(class)),
                None => "no class pays for it".to_owned(),
            };
            lines.push(format!(
                "a typical call of {} tokens with an answer of {} costs {}; {class}",
                number(input_tokens),
                number(output_tokens),
                number(cost)
            ));
        }
        lines.push("charge classes, chosen by themselves; what a call does not cost comes back:".to_owned());
        for ClassReport { class, output_tokens } in &self.classes {
            let tokens = output_tokens.as_deref().map(|tokens| {
                format!("  up to {} tokens of answer to {} of request", number(tokens), number(&TYPICAL.0.to_string()))
            });
            lines.push(format!("  {:>20}{}", number(class), tokens.unwrap_or_default()));
        }
        if let Some(until) = self.valid_until {
            lines.push(format!("these prices hold until {} UTC", utc(Timestamp::from_seconds(until))));
        }
        lines
    }
}

pub(super) fn run(place: &Place) -> Outcome {
    let report = match neighbour::ask::<PricesReport>(place, &Question::Prices)? {
        Some(report) => report,
        None => PricesReport::of(place.open()?.directory(), now()),
    };
    say(place.json, &serde_json::to_value(&report).unwrap_or_default(), report.lines())?;
    Ok(ExitCode::SUCCESS)
}
