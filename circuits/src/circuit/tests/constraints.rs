//! What can refuse a filling of the cells: each gate polynomial in each row where it is switched on, and each copy.
//!
//! Both the list and the verdicts come from `halo2_proofs`: the list from the text of the gates and the recorded selectors,
//! the verdicts from its mock prover.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use halo2_proofs::dev::{CircuitGates, FailureLocation, MockProver, VerifyFailure};
use pasta_curves::pallas::Base;

use super::super::*;
use super::recording::Recording;
use super::support::*;

/// One equation of the constraint system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Constraint {
    /// A polynomial of a gate, by its place in the gate, in a row.
    Gate(&'static str, usize, usize),
    /// A copy, by the name that the layout gives it.
    Copy(&'static str),
}

/// A gate as `configure` creates it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) name: String,
    pub(super) polynomials: usize,
    /// The number of its selector.
    selector: usize,
}

/// All gates, read from the text in which `halo2_proofs` shows them:
///
/// ```text
/// name of the gate:
/// - S3 * (polynomial)
/// - name of a polynomial:
///   S3 * (polynomial)
/// ```
pub(super) static GATES: LazyLock<Vec<Gate>> = LazyLock::new(|| {
    let text = CircuitGates::collect::<Base, SpendCircuit>().to_string();
    let mut gates: Vec<Gate> = Vec::new();
    for line in text.lines().take_while(|line| !line.starts_with("Total gates")) {
        let body = line.strip_prefix("- ").or(line.strip_prefix("  "));
        let Some(body) = body else {
            let name = line.strip_suffix(':').expect("the name of a gate").to_owned();
            gates.push(Gate { name, polynomials: 0, selector: usize::MAX });
            continue;
        };
        if line.starts_with("- ") && body.ends_with(':') {
            continue;
        }
        let gate = gates.last_mut().expect("a gate has a name");
        let (selector, _) = body.split_once(" * ").expect("a selector multiplies all of it");
        let selector = selector.strip_prefix('S').and_then(|n| n.parse().ok()).expect("a selector");
        assert!(gate.polynomials == 0 || gate.selector == selector, "one selector a gate");
        gate.selector = selector;
        gate.polynomials += 1;
    }
    gates
});

/// Every constraint of the circuit.
pub(super) fn all() -> BTreeSet<Constraint> {
    let recording = Recording::of(&Honest::new(1).empty_circuit());
    let mut all: BTreeSet<_> = COPIES.iter().map(|(what, _, _)| Constraint::Copy(what)).collect();
    for gate in GATES.iter() {
        for (_, row) in recording.selectors.iter().filter(|(selector, _)| *selector == gate.selector) {
            all.extend((0..gate.polynomials).map(|poly| Constraint::Gate(&gate.name, poly, *row)));
        }
    }
    all
}

/// Which constraints refuse a filling. None means that a verifier would accept.
///
/// # Panics
/// When something else is wrong with the circuit, such as a gate that reads a cell nobody assigns.
pub(super) fn refusals(circuit: &SpendCircuit, trace: Trace, instance: &Instance) -> BTreeSet<Constraint> {
    let broken: Vec<_> =
        COPIES.iter().filter(|(_, from, to)| trace.get(*from) != trace.get(*to)).map(|(what, _, _)| *what).collect();
    let prover = MockProver::run(K, &circuit.with_trace(trace), vec![instance.to_vec()]).expect("synthesis");
    let mut refusals = BTreeSet::new();
    let mut permutation = false;
    for failure in prover.verify().err().unwrap_or_default() {
        match failure {
            VerifyFailure::ConstraintNotSatisfied { constraint, location, .. } => {
                let FailureLocation::InRegion { offset: row, .. } = location else {
                    panic!("{constraint}: a gate that is on outside the region")
                };
                let (gate, poly) = numbers(&constraint.to_string());
                refusals.insert(Constraint::Gate(&GATES[gate].name, poly, row));
            }
            VerifyFailure::Permutation { .. } => permutation = true,
            other => panic!("{other}"),
        }
    }
    assert_eq!(permutation, !broken.is_empty(), "the permutation is that of the copies");
    refusals.extend(broken.into_iter().map(Constraint::Copy));
    refusals
}

/// The numbers in `Constraint 1 ('slope') in gate 9 ('signature: addition')`.
fn numbers(text: &str) -> (usize, usize) {
    let number = |text: &str| text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    let poly = number(text.strip_prefix("Constraint ").expect("a constraint"));
    let (_, gate) = text.split_once(" in gate ").expect("a gate");
    (number(gate), poly)
}

#[test]
fn gates_are_read_correctly() {
    let text = CircuitGates::collect::<Base, SpendCircuit>().to_string();
    let polynomials: usize = GATES.iter().map(|gate| gate.polynomials).sum();
    assert!(text.contains(&format!("Total gates: {}\n", GATES.len())));
    assert!(text.contains(&format!("Total custom constraint polynomials: {polynomials}\n")));
    let names: BTreeSet<_> = GATES.iter().map(|gate| &gate.name).collect();
    assert_eq!(names.len(), GATES.len(), "each gate has a name of its own");
    assert_eq!((GATES.len(), polynomials, COPIES.len()), (17, 33, 19), "docs/constraints.md has a row for each");
}

#[test]
fn every_gate_is_switched_on() {
    for gate in GATES.iter() {
        for poly in 0..gate.polynomials {
            assert!(
                all().iter().any(|c| matches!(c, Constraint::Gate(name, p, _) if *name == gate.name && *p == poly))
            );
        }
    }
}
