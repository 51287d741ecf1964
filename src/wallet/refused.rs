//! Whether a gateway was bound to refuse a refused spend, so that another note may be spent on the same request
//! (protocol, section 5, "Retry").
//!
//! A gateway that sees two notes for one request knows that they are one caller's. What it says is no reason to show it a second one,
//! and neither is that time passed while it kept the caller waiting, or that a directory came out meanwhile: all of that it can bring
//! about. The one reason is that the first spend was no good when it was sent: by the grid, or by a directory that everybody
//! could know by then.

use super::{Journal, Wallet};
use crate::protocol::{
    CLOCK_TOLERANCE, Credits, Digest, EpochNumber, GatewayId, Grid, Purpose, SpendKey, Timestamp, Window,
};

/// What a gateway's terms are about in a spend, and when it was pinned, before anything of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendTerms {
    epoch: EpochNumber,
    gateway: GatewayId,
    /// For a session: a class. Other purposes have no class.
    class: Option<Credits>,
    tariff: Digest,
    not_after: Timestamp,
    pinned_at: Timestamp,
}

impl<J: Journal> Wallet<J> {
    /// The terms of a spend in flight.
    pub fn terms_of(&self, key: &SpendKey) -> Option<SpendTerms> {
        let (_, flight) = self.in_flight(key)?;
        let spend = &flight.spend;
        Some(SpendTerms {
            epoch: spend.epoch,
            gateway: spend.gateway,
            class: (spend.purpose == Purpose::Session).then_some(spend.charge),
            tariff: spend.tariff,
            not_after: spend.not_after,
            pinned_at: flight.pinned_at,
        })
    }

    /// Whether every gateway whose clock is right within [`CLOCK_TOLERANCE`] had to refuse this spend at the time when it was pinned: by
    /// the grid, or by the directory that the wallet goes by now, if that was published long enough before. Only then may the same
    /// request be paid for with another note.
    pub fn had_to_be_refused(&self, terms: &SpendTerms) -> bool {
        let (directory, sent) = (&self.directory, terms.pinned_at);
        let never_within =
            |window: Window| sent.before(CLOCK_TOLERANCE) >= window.until || sent.after(CLOCK_TOLERANCE) < window.from;
        let step = u64::from(directory.grid().step());
        let admitted =
            Window { from: terms.not_after.before(2 * step), until: terms.not_after.before(step).after(Grid::GRACE) };
        // One that came out while the call lasted, or just before, is none that the caller failed to know.
        if directory.parts().published.after(CLOCK_TOLERANCE) > sent {
            return false;
        }
        let tariff = directory.parts().tariffs.iter().find(|tariff| tariff.digest() == terms.tariff);
        let agreed = |valid: Window| Window { until: valid.until.after(Grid::GRACE), ..valid };
        never_within(admitted)
            || directory.gateway(&terms.gateway).is_none()
            || terms.class.is_some_and(|class| !directory.has_class(class))
            || directory.epoch(terms.epoch).is_none_or(|epoch| never_within(epoch.spend))
            || tariff.is_none_or(|tariff| never_within(agreed(tariff.valid())))
    }
}
