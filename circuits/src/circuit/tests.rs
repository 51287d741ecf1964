//! What cheats are tried on the circuit. See also `docs/constraints.md`.

mod attack;
mod balance;
mod chain;
mod cheater;
mod constraints;
mod coverage;
mod forgeries;
mod identity;
mod recording;
mod signer;
mod support;

use constraints::refusals;
use support::*;

#[test]
fn an_honest_spend_satisfies_the_circuit() {
    for seed in 0..4 {
        let spend = Honest::new(seed);
        assert!(refusals(&spend.empty_circuit(), spend.trace(), &spend.public.instance()).is_empty());
    }
}
