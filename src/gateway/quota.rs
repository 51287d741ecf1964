//! Limits on what costs the gateway work and earns it nothing.

use std::sync::Arc;

use crate::quota::Meter;
pub use crate::quota::Rate;

/// What a gateway lets each [`Sender`](crate::protocol::Sender) do how often. One more is refused as busy, before its proof is
/// verified. Nothing is counted that the set answers, nor a proof that does not hold; and no sender uses up what others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// New spends. Unlimited by default: what cannot be verified in time is refused by the queue in front of the verifier.
    pub admissions: Rate,
    /// Cancels of spends that are not in the set, which earn nothing and stay in it. 600 a minute by default.
    pub cancels: Rate,
    /// Rollovers. 600 a minute by default.
    pub rollovers: Rate,
    /// Transfers. 600 a minute by default.
    pub transfers: Rate,
}

impl Default for Quotas {
    fn default() -> Self {
        let free = Rate { per_minute: 600, burst: 600 };
        Self { admissions: Rate::UNLIMITED, cancels: free, rollovers: free, transfers: free }
    }
}

/// The state of all quotas.
pub(super) struct Meters {
    pub(super) admissions: Arc<Meter>,
    pub(super) cancels: Arc<Meter>,
    pub(super) rollovers: Arc<Meter>,
    pub(super) transfers: Arc<Meter>,
}

impl Meters {
    pub(super) fn new(quotas: Quotas) -> Self {
        let new = |rate| Arc::new(Meter::new(rate));
        let Quotas { admissions, cancels, rollovers, transfers } = quotas;
        Self {
            admissions: new(admissions),
            cancels: new(cancels),
            rollovers: new(rollovers),
            transfers: new(transfers),
        }
    }
}
