//! The calls that a budget is computed from: those of a store, or those that the operator counted.

use std::collections::BTreeMap;
use std::path::Path;

use super::budget::Counts;
use halometer::protocol::{Purpose, Spend};
use halometer::sealed::read_bounded;
use halometer::store::durable::DurableStore;
use halometer::store::{MintBook as _, PartitionPhase, SpentSet as _};

/// Longest file of counts, bytes.
const LONGEST: usize = 1 << 20;
/// How many records are read at once.
const PAGE: usize = 1_000;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    /// The calls by each choice.
    pub(super) choices: BTreeMap<String, Counts>,
    /// The calls by all choices at once, where they are known together.
    pub(super) together: Counts,
    /// How many callers there are at most; none if nothing says so.
    pub(super) callers: Option<u64>,
    /// The calls of each window.
    pub(super) windows: Vec<u64>,
    /// Transfers and rollovers, which are no calls.
    pub(super) others: u64,
    /// Records whose public part is erased, which could not be counted.
    pub(super) erased: u64,
}

impl Traffic {
    /// Reads what a store, or a backup of one, still has of its spends: those within the evidence window.
    pub(super) fn of_store(store: &DurableStore) -> Result<Self, Box<dyn std::error::Error>> {
        let mut traffic = Self::default();
        let mut windows = BTreeMap::<u64, u64>::new();
        let set = store.spent_set();
        let mut held = Vec::new();
        for (epoch, phase) in set.partitions()? {
            if phase != PartitionPhase::Retired {
                held.push(epoch);
                let mut last = None;
                loop {
                    let page = set.scan(epoch, last.as_ref(), PAGE)?;
                    let full = page.len() >= PAGE;
                    last = page.last().map(|record| record.key.nullifier);
                    for record in page {
                        let spend = record.evidence.and_then(|evidence| Spend::from_bytes(&evidence.spend).ok());
                        match spend {
                            Some(spend) => traffic.count(&spend, &mut windows),
                            None => traffic.erased += 1,
                        }
                    }
                    if !full {
                        break;
                    }
                }
            }
        }
        traffic.windows = windows.into_values().collect();
        // A payment is one caller's, and a caller may have several.
        let mints = store.mint_book();
        let (mut accounts, mut last) = (0_u64, None);
        loop {
            let page = mints.scan(last.as_ref(), PAGE)?;
            accounts += page.iter().filter(|mint| held.contains(&mint.response.epoch)).count() as u64;
            last = page.last().map(|mint| mint.payment);
            if page.len() < PAGE {
                break;
            }
        }
        traffic.callers = Some(accounts);
        Ok(traffic)
    }

    fn count(&mut self, spend: &Spend, windows: &mut BTreeMap<u64, u64>) {
        // A transfer or a rollover is no call, and has a crowd of its own.
        if spend.purpose != Purpose::Session {
            self.others += 1;
            return;
        }
        let tariff = spend.tariff.to_string();
        let seen = [
            ("class", spend.charge.to_string()),
            ("epoch", spend.epoch.to_string()),
            ("gateway", spend.gateway.to_string()),
            ("tariff", tariff.get(..16).unwrap_or(&tariff).to_owned()),
        ];
        let mut together = String::new();
        for (name, value) in seen {
            together.extend([&value, " "]);
            *self.choices.entry(name.to_owned()).or_default().entry(value).or_default() += 1;
        }
        *self.together.entry(together).or_default() += 1;
        *windows.entry(spend.not_after.seconds()).or_default() += 1;
    }

    /// Reads counts that the operator made: tables of `value = calls`, and `callers`.
    pub(super) fn of_file(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let bytes = read_bounded(path, LONGEST).map_err(|error| format!("{}: {error}", path.display()))?;
        let text = core::str::from_utf8(&bytes).map_err(|_| format!("{}: not UTF-8 text", path.display()))?;
        Self::parse(text).map_err(|error| format!("{}: {error}", path.display()).into())
    }

    fn parse(text: &str) -> Result<Self, String> {
        #[derive(serde::Deserialize)]
        struct File {
            callers: Option<u64>,
            #[serde(flatten)]
            choices: BTreeMap<String, Counts>,
        }
        let read: Result<File, _> = toml::from_str(text);
        let next = "expected `callers = N`, and tables as `[class]` with `4000 = N`, so many calls, in each line";
        let File { callers, choices } = read.map_err(|error| format!("{}; {next}", error.message().trim()))?;
        Ok(Self { choices, callers, ..Self::default() })
    }

    /// Adds what others counted: of each choice the last word counts.
    pub(super) fn with(mut self, other: Self) -> Self {
        // Choices that were counted apart say nothing of the two together.
        if !other.choices.is_empty() {
            self.together.clear();
        }
        self.choices.extend(other.choices);
        self.callers = other.callers.or(self.callers);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_what_is_none_is_said() {
        let traffic =
            Traffic::parse("callers = 400\n[class]\n4000 = 90\n16000 = 10\n[route]\n\"POST /v1\" = 7").unwrap();
        assert_eq!((traffic.callers, traffic.choices.len()), (Some(400), 2));
        assert_eq!(traffic.choices["class"]["16000"], 10);
        for wrong in ["callers = -1", "[class]\n4000 = \"x\"", "class = 4", "callers"] {
            assert!(Traffic::parse(wrong).unwrap_err().contains("expected `callers = N`"), "{wrong}");
        }
    }
}
