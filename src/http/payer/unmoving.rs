//! Gateways that carry out no transfers: those without a set of their own. Credit is gathered and divided at others.

use crate::protocol::{GatewayId, Timestamp};
use crate::wallet::{Journal, Wallet};

/// The note of them in the journal: a line for each, its id and when it said so.
const NOTE: &str = "gateways-without-transfers";
/// After which time it is asked again, seconds: it may have become another kind of gateway.
const FORGOTTEN: u64 = 30 * 86_400;

/// Those in a note that are not forgotten.
fn read(text: &str, now: Timestamp) -> impl Iterator<Item = (&str, u64)> {
    let line = |line| {
        let (id, at) = str::split_once(line, ' ')?;
        Some((id, at.parse::<u64>().ok()?))
    };
    text.lines().filter_map(line).filter(move |(_, at)| now.seconds().abs_diff(*at) < FORGOTTEN)
}

/// Whether a gateway said, not long ago, that it carries out none.
pub(super) fn is_known<J: Journal>(wallet: &Wallet<J>, gateway: &GatewayId, now: Timestamp) -> bool {
    let text = wallet.journal().remembered(NOTE).ok().flatten().unwrap_or_default();
    let gateway = gateway.to_string();
    read(&text, now).any(|(id, _)| id == gateway)
}

/// Notes that it said so.
pub(super) fn note<J: Journal>(wallet: &mut Wallet<J>, gateway: &GatewayId, now: Timestamp) {
    let text = wallet.journal().remembered(NOTE).ok().flatten().unwrap_or_default();
    let gateway = gateway.to_string();
    let mut new = format!("{gateway} {}", now.seconds());
    for (id, at) in read(&text, now).filter(|(id, _)| *id != gateway) {
        new += &format!("\n{id} {at}");
    }
    // It is found out again if it cannot be written.
    let _ = wallet.remember(NOTE, &new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_forgotten_after_a_while_and_bears_any_text() {
        let at = Timestamp::from_seconds;
        let text = "aa 1000\nbb\n\ncc x\ndd 2000 3\nee 5000000";
        assert_eq!(read(text, at(1_001)).collect::<Vec<_>>(), [("aa", 1_000)]);
        assert_eq!(read(text, at(5_000_000)).collect::<Vec<_>>(), [("ee", 5_000_000)]);
        assert_eq!(read("", at(0)).count(), 0);
    }
}
