//! The description of the circuit is pinned, and it is that of the circuit that is proved.

use std::path::Path;

use halo2_proofs::plonk::{Circuit, ConstraintSystem};
use pasta_curves::pallas::Base;

use super::super::*;
use super::golden::vector_key;
use super::support::*;
use crate::circuit::description::Description;

const GOLDEN: &str = "tests/golden/circuit.txt";

fn summary(text: &str, digest: &[u8; 32]) -> String {
    let count = |word: &str| text.lines().filter(|line| line.split(' ').next() == Some(word)).count();
    let mut summary = String::new();
    let mut line = |name: &str, value: String| summary.push_str(&format!("{name:<22}{value}\n"));
    line("format", text.lines().next().unwrap_or_default().to_owned());
    line("gates", format!("{}, of {} polynomials", count("gate"), count("poly")));
    line("selectors on", count("on").to_string());
    line("fixed cells", count("fixed").to_string());
    line("advice cells", count("cell").to_string());
    line("copies", count("copy").to_string());
    line("bytes", text.len().to_string());
    line("epoch key", hex(&vector_key().to_bytes()));
    line("digest", hex(digest));
    summary
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_description_is_the_pinned_one() {
    let description = Description::of(&SpendCircuit::for_key(&vector_key()));
    let found = summary(&description.text(), &description.digest());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("HALOMETER_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, pinned,
        "\nThe description of the circuit is not the one in circuits/{GOLDEN}.\nIf verifying_key.txt has changed too, the \
         circuit is another; else the text is. If that is meant, run the test with HALOMETER_BLESS=1.\n"
    );
}

#[test]
fn a_description_does_not_depend_on_the_witness() {
    let spend = Honest::new(1);
    assert_eq!(Description::of(&spend.empty_circuit()).text(), Description::of(&spend.circuit()).text());
}

/// Another key changes fixed cells of the signature's rows and of the fingerprint of the key, and nothing else.
#[test]
fn an_epoch_key_changes_fixed_cells_alone() {
    let text = |seed| Description::of(&Honest::new(seed).empty_circuit()).text();
    let (a, b) = (text(1), text(2));
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    assert_eq!(a.len(), b.len());
    let changed: Vec<_> = a.iter().zip(&b).filter(|(a, b)| a != b).collect();
    assert!(!changed.is_empty() && changed.iter().all(|(a, _)| a.starts_with("fixed ")));
}

/// The gates that are read from the debug text are written as `halo2_proofs` shows them in its own list: the same reads, in
/// the same order, constants too.
#[test]
fn the_polynomials_are_read_whole() {
    let mut meta = ConstraintSystem::<Base>::default();
    SpendCircuit::configure(&mut meta);
    let shown = format!("{:?}", meta.pinned());
    let (_, gates) = shown.split_once("gates: [").unwrap();
    let (gates, _) = gates.split_once("], advice_queries").unwrap();
    let text = Description::of(&Honest::new(1).empty_circuit()).text();
    let polys: String = text.lines().filter(|line| line.starts_with("poly ")).collect();
    let pairs = [
        ("Sum(", "(+ "),
        ("Product(", "(* "),
        ("Scaled(", "(scale "),
        ("Negated(", "(neg "),
        ("Selector(Selector(", " s"),
        ("Advice {", " a"),
        ("Instance {", " i"),
    ];
    for (theirs, ours) in pairs {
        // A name of a polynomial may hold a word that begins like a read: those come after a semicolon.
        let ours =
            polys.split("poly ").map(|line| line.split(" ; ").next().unwrap().matches(ours).count()).sum::<usize>();
        assert_eq!(gates.matches(theirs).count(), ours, "{theirs}");
    }
}
