//! How a wallet is used.

use crate::protocol::Credits;

/// What its owner wants of a wallet. The defaults, [`personal`](Self::personal), are for one person with one assistant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The charge class of every call: one for all, so that it tells calls apart by nothing.
    pub class: Credits,
    /// How long a session may be, seconds; 0: one call. Calls of one session are linkable to each other.
    pub session_seconds: u32,
    /// Lanes that can pay the class, which the wallet tries to have at any time: when there are fewer, and other lanes together have
    /// the credit, it is gathered, or a rich lane divided.
    pub lanes: u32,
    /// Proofs that are made ahead, at most; each takes about 5 kB.
    pub ready: u32,
    /// Threads that make proofs. Each takes about 20 MB while it does, and a core, at the lowest priority where the system has any.
    pub provers: u32,
    /// The longest pause before work that nobody waits for (proofs of a new window, transfers, rollovers), seconds. Its length is left
    /// to chance, so that wallets do not all act at one moment.
    pub jitter_seconds: u32,
    /// How long no call was made before credit is transferred between lanes, seconds: a transfer beside calls would say that
    /// these are one caller's.
    pub quiet_seconds: u32,
    /// Whether credit is gathered at all. A transfer shows the gateway that two lanes have one owner.
    pub gather: bool,
    /// How long before the end of its epoch a note is rolled over in any case, seconds. Before that it happens in quiet times.
    pub roll_over_seconds: u64,
    /// How long credit that was just minted rests before its first use, seconds: at least so long and at most twice as long, as chance
    /// has it, so that a mint and a first call are not known to be one caller's by their times. 0: not at all.
    pub rest_seconds: u32,
}

impl Policy {
    /// For one person with one assistant: four lanes, one prover, transfers after a quarter of an hour without a call.
    pub const fn personal(class: Credits) -> Self {
        Self {
            class,
            session_seconds: 0,
            lanes: 4,
            ready: 8,
            provers: 1,
            jitter_seconds: 60,
            quiet_seconds: 900,
            gather: true,
            roll_over_seconds: 2 * 86_400,
            rest_seconds: 0,
        }
    }

    /// For an agent that makes 50 calls at once: all lanes, a prover for each core but one, transfers after a minute.
    pub fn agent(class: Credits, cores: u32) -> Self {
        Self {
            lanes: 8,
            ready: 64,
            provers: cores.saturating_sub(1).max(1),
            jitter_seconds: 20,
            quiet_seconds: 60,
            ..Self::personal(class)
        }
    }
}
