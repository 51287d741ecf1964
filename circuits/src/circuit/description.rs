//! The circuit as plain data: gates, fixed cells, selectors, copies and assigned cells.
//!
//! `halo2_proofs` keeps the polynomials of its gates to itself but for their debug text, so they are read from there
//! (`poly`); what synthesis does is recorded. Nothing here looks at the code of the circuit: a tool that takes the
//! [text](Description::text) in sees what the proof system sees. `docs/constraints.md` describes the format.

mod poly;
mod record;

use std::fmt::Write as _;

use blake2b_simd::Params as Blake2b;
use ff::PrimeField;
use halo2_proofs::dev::CircuitGates;
use halo2_proofs::plonk::{Circuit, ConstraintSystem};
use pasta_curves::pallas::Base;

use super::layout::K;
use poly::Scanner;

pub(crate) use poly::Poly;
#[cfg(test)]
pub(crate) use poly::Read;
pub(crate) use record::Record;
#[cfg(test)]
pub(crate) use record::selector_number;

/// A gate: polynomials that are zero in every row.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) name: String,
    /// Names and polynomials; the names may be empty.
    pub(crate) polynomials: Vec<(String, Poly)>,
}

/// All of a circuit but its witness.
#[derive(Debug)]
pub(crate) struct Description {
    /// Numbers of advice, fixed and instance columns, and of selectors.
    pub(crate) columns: [usize; 4],
    /// Rows that may be assigned.
    pub(crate) usable: usize,
    /// Advice columns that take part in copies.
    pub(crate) equality: Vec<usize>,
    pub(crate) gates: Vec<Gate>,
    pub(crate) record: Record,
}

impl Description {
    /// Reads the gates that `configure` makes and records what `synthesize` does.
    pub(crate) fn of<C: Circuit<Base>>(circuit: &C) -> Self {
        let mut meta = ConstraintSystem::default();
        let config = C::configure(&mut meta);
        let text = format!("{:?}", meta.pinned());
        let number = |name: &str| -> usize {
            let (_, rest) = text.split_once(name).expect("a number of columns");
            rest.split_once(',').and_then(|(number, _)| number.parse().ok()).expect("a number")
        };
        let columns = ["num_advice_columns: ", "num_fixed_columns: ", "num_instance_columns: ", "num_selectors: "];
        Self {
            columns: columns.map(number),
            usable: (1 << K) - (meta.blinding_factors() + 1),
            equality: equality(&text),
            gates: gates::<C>(&text),
            record: Record::of(circuit, config),
        }
    }

    /// The plain text, one item a line.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("halometer-circuit 1\n");
        let [advice, fixed, instance, selectors] = self.columns;
        let modulus = Base::MODULUS.trim_start_matches("0x");
        let mut line = |line: core::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string takes all");
        line(format_args!("field {modulus}"));
        line(format_args!("rows {} of which {} usable", 1 << K, self.usable));
        line(format_args!("columns {advice} advice {fixed} fixed {instance} instance {selectors} selectors"));
        for column in &self.equality {
            line(format_args!("equality a{column}"));
        }
        for gate in &self.gates {
            line(format_args!("gate {}", gate.name));
            for (name, poly) in &gate.polynomials {
                line(format_args!("poly {poly}{}{name}", if name.is_empty() { "" } else { " ; " }));
            }
        }
        for (selector, row) in &self.record.selectors {
            line(format_args!("on s{selector} {row}"));
        }
        for (column, row, value) in &self.record.fixed {
            line(format_args!("fixed f{column} {row} {}", Element(value)));
        }
        for (column, row) in &self.record.advice {
            line(format_args!("cell a{column} {row}"));
        }
        for ((from, from_row), (to, to_row)) in &self.record.copies {
            line(format_args!("copy a{from} {from_row} a{to} {to_row}"));
        }
        text
    }

    /// BLAKE2b-256 of the text.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let hash = Blake2b::new().hash_length(32).personal(b"halometer1-circ_").hash(self.text().as_bytes());
        hash.as_bytes().try_into().expect("32 bytes were asked for")
    }
}

/// A field element as hexadecimal digits, most significant first, without leading zeros.
struct Element<'a>(&'a Base);

impl core::fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let digits: String = self.0.to_repr().iter().rev().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.trim_start_matches('0');
        f.write_str(if digits.is_empty() { "0" } else { digits })
    }
}

/// The advice columns of the permutation argument.
fn equality(text: &str) -> Vec<usize> {
    let (_, rest) = text.split_once("permutation: Argument { columns: [").expect("the permutation");
    let (columns, _) = rest.split_once(']').expect("its end");
    columns
        .split("Column { index: ")
        .skip(1)
        .map(|column| {
            let (index, kind) = column.split_once(", column_type: ").expect("a column");
            assert!(kind.starts_with("Advice"), "only advice takes part in copies");
            index.parse().expect("a number")
        })
        .collect()
}

/// The gates with their names. The debug text has all polynomials in one list, the list of gates has the names.
fn gates<C: Circuit<Base>>(text: &str) -> Vec<Gate> {
    let (_, polynomials) = text.split_once("gates: [").expect("the gates");
    let mut scanner = Scanner::new(polynomials);
    let mut gates: Vec<Gate> = Vec::new();
    let names = CircuitGates::collect::<Base, C>().to_string();
    let mut poly_name = String::new();
    for line in names.lines().take_while(|line| !line.starts_with("Total gates")) {
        if let Some(name) = line.strip_prefix("- ").and_then(|line| line.strip_suffix(':')) {
            poly_name = name.to_owned();
        } else if line.starts_with("- ") || line.starts_with("  ") {
            let gate = gates.last_mut().expect("a gate has a name");
            gate.polynomials.push((core::mem::take(&mut poly_name), scanner.poly()));
            scanner.accept(", ");
        } else {
            let name = line.strip_suffix(':').expect("the name of a gate").to_owned();
            gates.push(Gate { name, polynomials: Vec::new() });
        }
    }
    assert!(scanner.accept("]"), "a polynomial of no gate");
    gates
}
