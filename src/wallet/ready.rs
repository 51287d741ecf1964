//! Spends that are ready to be sent.

use halometer_circuits::note::ContextHash;
use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::lane::Lane;
use super::{Journal, LaneId, Wallet};
use crate::protocol::{Credits, GatewayId, Purpose, SessionKey, Spend, SpendKey, Timestamp};

/// A spend with its proof, which was not sent. Not `Clone`: it is thrown away or sent, never copied or backed up. Not printed,
/// wiped on drop.
pub struct ReadySpend {
    pub(super) lane: LaneId,
    pub(super) index: u64,
    pub(super) x: ContextHash,
    pub(super) spend: Spend,
    pub(super) session: SessionKey,
    /// `v'`.
    pub(super) hidden: Zeroizing<u64>,
    /// What the taking half of a transfer brings in.
    pub(super) takes: Credits,
}

impl core::fmt::Debug for ReadySpend {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ReadySpend").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl ReadySpend {
    /// The lane whose note it spends.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// Its charge.
    pub fn charge(&self) -> Credits {
        self.spend.charge
    }

    /// Epoch, `nf` and `x`.
    pub(super) fn key(&self) -> SpendKey {
        SpendKey { epoch: self.spend.epoch, nullifier: self.spend.nullifier, context: self.x }
    }
}

impl<J: Journal> Wallet<J> {
    /// Keeps a ready spend for a session until it is taken. It replaces one of the same lane, gateway and class. One whose note is
    /// not its lane's frontier any more is thrown away, and one for another purpose, which is for use at once.
    pub fn keep(&mut self, ready: ReadySpend) {
        if ready.spend.purpose != Purpose::Session {
            return;
        }
        let replaced = |other: &ReadySpend| {
            (other.lane, other.spend.gateway, other.spend.charge)
                == (ready.lane, ready.spend.gateway, ready.spend.charge)
        };
        self.ready.retain(|other| !replaced(other));
        if self.is_frontier(&ready) {
            self.ready.push(ready);
        }
    }

    /// Takes a ready spend for a gateway and class, of a lane chosen uniformly among those that have one. None when none is
    /// ready.
    pub fn take<R: Rng + CryptoRng>(
        &mut self,
        gateway: &GatewayId,
        class: Credits,
        now: Timestamp,
        rng: &mut R,
    ) -> Option<ReadySpend> {
        let suiting: Vec<usize> =
            (0..self.ready.len()).filter(|i| self.suits(&self.ready[*i], gateway, class, now)).collect();
        let chosen = *suiting.get(uniform_below(suiting.len(), rng)?)?;
        Some(self.ready.swap_remove(chosen))
    }

    /// Number of ready spends for a gateway and class.
    pub fn ready(&self, gateway: &GatewayId, class: Credits, now: Timestamp) -> usize {
        self.ready.iter().filter(|ready| self.suits(ready, gateway, class, now)).count()
    }

    /// The lanes that have a ready spend for a gateway and class.
    pub fn ready_lanes<'a>(
        &'a self,
        gateway: &'a GatewayId,
        class: Credits,
        now: Timestamp,
    ) -> impl Iterator<Item = LaneId> + 'a {
        self.ready.iter().filter(move |ready| self.suits(ready, gateway, class, now)).map(|ready| ready.lane)
    }

    /// Throws away the ready spends that cannot be used any more: those of an earlier window, or of a tariff or class that is
    /// gone.
    pub fn discard_stale(&mut self, now: Timestamp) {
        let mut kept = core::mem::take(&mut self.ready);
        kept.retain(|ready| self.is_current(ready, now) && self.is_frontier(ready));
        self.ready = kept;
    }

    pub(super) fn suits(&self, ready: &ReadySpend, gateway: &GatewayId, class: Credits, now: Timestamp) -> bool {
        ready.spend.gateway == *gateway && ready.spend.charge == class && self.is_current(ready, now)
    }

    /// Whether it is what would be made now. A gateway takes older ones for some minutes, but one sent late in them may
    /// arrive after: its note would be pinned to what is refused. So an older one is thrown away.
    pub(super) fn is_current(&self, ready: &ReadySpend, now: Timestamp) -> bool {
        let (spend, directory) = (&ready.spend, &self.directory);
        directory.epoch(spend.epoch).is_some_and(|epoch| epoch.spend.contains(now))
            && spend.not_after == directory.grid().callers_not_after(now)
            && (spend.purpose != Purpose::Session || directory.has_class(spend.charge))
            && directory.gateway(&spend.gateway).is_some()
            && directory.callers_tariff(now).is_some_and(|tariff| tariff.digest() == spend.tariff)
    }

    /// Whether its note is its lane's newest and known to be unspent, which it may be no longer since the proof was begun.
    pub(super) fn is_frontier(&self, ready: &ReadySpend) -> bool {
        matches!(self.lanes.get(&ready.lane), Some(Lane::Idle(note)) if note.unspent && note.index == ready.index)
    }
}

/// A number below `bound`, each as likely as the other; none when there is none.
fn uniform_below<R: Rng + CryptoRng>(bound: usize, rng: &mut R) -> Option<usize> {
    let bound = u64::try_from(bound).ok().filter(|bound| *bound > 0)?;
    // The last, incomplete run of `bound` numbers is drawn again.
    let runs = u64::MAX - u64::MAX % bound;
    loop {
        let drawn = rng.next_u64();
        if drawn < runs {
            return usize::try_from(drawn % bound).ok();
        }
    }
}
