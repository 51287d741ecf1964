//! What cheats are tried on the circuit. See also `docs/constraints.md`.

mod agreement;
mod attack;
mod balance;
mod cells;
mod chain;
mod cheater;
mod constraints;
mod coverage;
mod description;
mod determinism;
mod ecc;
mod faults;
mod forgeries;
mod freedoms;
mod golden;
mod identity;
mod poseidon;
mod recording;
mod signer;
mod sparse;
mod substitution;
mod support;
mod system;
mod values;

use constraints::refusals;
use support::*;

#[test]
fn an_honest_spend_satisfies_the_circuit() {
    for seed in 0..4 {
        let spend = Honest::new(seed);
        assert!(refusals(&spend.empty_circuit(), spend.trace(), &spend.public.instance()).is_empty());
    }
}
