//! The constraint system as equations over cells, evaluated and differentiated from its [`Description`] alone.
//!
//! It must say what the mock prover says: [`the_equations_say_what_the_mock_prover_says`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ff::Field;
use pasta_curves::pallas::Base;
use rayon::prelude::*;

use super::super::*;
use super::cheater::{Cheater, Filling};
use super::constraints::Constraint;
use super::recording::COLUMNS;
use super::support::*;
use super::{balance, forgeries, identity};
use crate::circuit::description::{Description, Poly, Read};
use crate::circuit::layout::At;

/// A value that equations tie: an advice cell, or a row of the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Var {
    Cell(At),
    Public(usize),
}

/// Partial derivatives, by variable.
pub(super) type Gradient = BTreeMap<Var, Base>;

/// The equations of a circuit.
pub(super) struct System {
    pub(super) description: Description,
    fixed: HashMap<(usize, usize), Base>,
    on: BTreeSet<(usize, usize)>,
    copies: Vec<(&'static str, At, At)>,
    /// Each gate polynomial in each row in which its selector is on.
    places: Vec<Place>,
    /// The selectors of the gates, by their names.
    selectors: HashMap<&'static str, usize>,
}

/// A gate polynomial in a row.
struct Place {
    gate: usize,
    poly: usize,
    row: usize,
    selector: usize,
    /// What it reads.
    reads: Vec<Var>,
}

/// What a [`Fault`](super::faults::Fault) takes away in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Piece {
    Copy(&'static str),
    Selector(usize),
}

impl System {
    /// The equations of a circuit that is laid out as the Spend circuit is.
    pub(super) fn of(circuit: &impl halo2_proofs::plonk::Circuit<Base>) -> Self {
        let description = Description::of(circuit);
        let record = &description.record;
        let on: BTreeSet<_> = record.selectors.iter().copied().collect();
        let mut places = Vec::new();
        for (gate, made) in description.gates.iter().enumerate() {
            for (number, (_, poly)) in made.polynomials.iter().enumerate() {
                let mut selectors = Vec::new();
                selectors_of(poly, &mut selectors);
                let [selector] = selectors[..] else { panic!("{}: one selector a polynomial", made.name) };
                places.extend(on.iter().filter(|(s, _)| *s == selector).map(|(_, row)| Place {
                    gate,
                    poly: number,
                    row: *row,
                    selector,
                    reads: derive(poly, *row, &|_| Base::ZERO).1.into_keys().collect(),
                }));
            }
        }
        let copies = record
            .copies
            .iter()
            .map(|(from, to)| {
                let (from, to) = (at(*from), at(*to));
                let known = COPIES.iter().find(|(_, a, b)| (*a, *b) == (from, to));
                (known.expect("a copy of the layout").0, from, to)
            })
            .collect();
        let fixed = record.fixed.iter().map(|(column, row, value)| ((*column, *row), *value)).collect();
        let name = |place: &Place| super::constraints::GATES[place.gate].name.as_str();
        let selectors = places.iter().map(|place| (name(place), place.selector)).collect();
        Self { fixed, on, copies, selectors, places, description }
    }

    fn constraint(&self, place: &Place) -> Constraint {
        // The names live as long as the program: those of the list that the mock prover is compared with.
        Constraint::Gate(&super::constraints::GATES[place.gate].name, place.poly, place.row)
    }

    fn poly(&self, place: &Place) -> &Poly {
        &self.description.gates[place.gate].polynomials[place.poly].1
    }

    fn read(&self, row: usize, read: Read, var: &impl Fn(Var) -> Base) -> Base {
        match read {
            Read::Advice(column, rotation) => var(Var::Cell((COLUMNS[column], below(row, rotation)))),
            Read::Fixed(column, rotation) => {
                self.fixed.get(&(column, below(row, rotation))).copied().unwrap_or(Base::ZERO)
            }
            Read::Instance(_, rotation) => var(Var::Public(below(row, rotation))),
            Read::Selector(selector) => Base::from(u64::from(self.on.contains(&(selector, row)))),
        }
    }

    fn holds(&self, place: &Place, var: &impl Fn(Var) -> Base) -> bool {
        value(self.poly(place), &|read| self.read(place.row, read, var)).is_zero().into()
    }

    /// Which equations a filling breaks.
    pub(super) fn refusals(&self, trace: &Trace, instance: &[Base]) -> BTreeSet<Constraint> {
        let gates = self.places.iter().filter(|place| !self.holds(place, &|var| look(trace, instance, var)));
        let copies = self.copies.iter().filter(|(_, from, to)| trace.get(*from) != trace.get(*to));
        gates.map(|place| self.constraint(place)).chain(copies.map(|(what, _, _)| Constraint::Copy(what))).collect()
    }

    /// Which equations are broken by two fillings that satisfy all, when some variables have their values from the other: of
    /// those that read from both, as the rest hold. Stops when they are of more than `pieces` pieces of the circuit.
    pub(super) fn refusals_of_mixture(
        &self,
        base: &Filling,
        other: &Filling,
        replaced: &impl Fn(Var) -> bool,
        pieces: usize,
    ) -> BTreeSet<Constraint> {
        let mixed = |mut vars: core::slice::Iter<'_, Var>| {
            let first = vars.next().is_some_and(|var| replaced(*var));
            vars.any(|var| replaced(*var) != first)
        };
        let var = |var| {
            let Filling { trace, instance } = if replaced(var) { other } else { base };
            look(trace, instance, var)
        };
        let copies = self.copies.iter().filter(|(_, from, to)| var(Var::Cell(*from)) != var(Var::Cell(*to)));
        let gates = self.places.iter().filter(|place| mixed(place.reads.iter()) && !self.holds(place, &var));
        let copies = copies.map(|(what, _, _)| Constraint::Copy(what));
        let mut found = BTreeSet::new();
        let mut of = BTreeSet::new();
        for constraint in copies.chain(gates.map(|place| self.constraint(place))) {
            of.insert(self.piece(&constraint));
            found.insert(constraint);
            if of.len() > pieces {
                break;
            }
        }
        found
    }

    fn piece(&self, constraint: &Constraint) -> Piece {
        match constraint {
            Constraint::Copy(what) => Piece::Copy(what),
            Constraint::Gate(name, ..) => Piece::Selector(self.selectors[name]),
        }
    }

    /// The pieces of the circuit that constraints are part of.
    pub(super) fn pieces(&self, constraints: &BTreeSet<Constraint>) -> BTreeSet<Piece> {
        constraints.iter().map(|constraint| self.piece(constraint)).collect()
    }

    /// All equations.
    pub(super) fn constraints(&self) -> BTreeSet<Constraint> {
        let copies = self.copies.iter().map(|(what, _, _)| Constraint::Copy(what));
        self.places.iter().map(|place| self.constraint(place)).chain(copies).collect()
    }

    /// The derivatives of every equation at a filling.
    pub(super) fn gradients(&self, trace: &Trace, instance: &[Base]) -> Vec<Gradient> {
        let gates = self.places.iter().map(|place| {
            let values = |read| self.read(place.row, read, &|var| look(trace, instance, var));
            let mut gradient = derive(self.poly(place), place.row, &values).1;
            gradient.retain(|_, slope| !bool::from(slope.is_zero()));
            gradient
        });
        let copies = self
            .copies
            .iter()
            .map(|(_, from, to)| Gradient::from([(Var::Cell(*from), Base::ONE), (Var::Cell(*to), -Base::ONE)]));
        gates.chain(copies).collect()
    }

    /// The cells that synthesis assigns.
    pub(super) fn cells(&self) -> impl Iterator<Item = Var> {
        self.description.record.advice.iter().map(|cell| Var::Cell(at(*cell)))
    }
}

fn at((column, row): (usize, usize)) -> At {
    (COLUMNS[column], row)
}

fn look(trace: &Trace, instance: &[Base], var: Var) -> Base {
    match var {
        Var::Cell(at) => trace.get(at),
        Var::Public(row) => instance.get(row).copied().unwrap_or(Base::ZERO),
    }
}

fn below(row: usize, rotation: i32) -> usize {
    row.checked_add_signed(rotation as isize).expect("no gate reads across the edge")
}

/// The value in a row, where `read` gives the values of cells.
fn value(poly: &Poly, read: &impl Fn(Read) -> Base) -> Base {
    match poly {
        Poly::Constant(value) => *value,
        Poly::Read(cell) => read(*cell),
        Poly::Negated(a) => -value(a, read),
        Poly::Sum(a, b) => value(a, read) + value(b, read),
        Poly::Product(a, b) => value(a, read) * value(b, read),
        Poly::Scaled(a, scale) => value(a, read) * scale,
    }
}

/// The selectors that a polynomial reads.
fn selectors_of(poly: &Poly, found: &mut Vec<usize>) {
    match poly {
        Poly::Read(Read::Selector(selector)) => found.push(*selector),
        Poly::Constant(_) | Poly::Read(_) => {}
        Poly::Negated(a) | Poly::Scaled(a, _) => selectors_of(a, found),
        Poly::Sum(a, b) | Poly::Product(a, b) => {
            selectors_of(a, found);
            selectors_of(b, found);
        }
    }
}

/// Value and derivatives of a polynomial in a row.
fn derive(poly: &Poly, row: usize, values: &impl Fn(Read) -> Base) -> (Base, Gradient) {
    let scaled = |(value, mut gradient): (Base, Gradient), scale: Base| {
        gradient.values_mut().for_each(|slope| *slope *= scale);
        (value * scale, gradient)
    };
    let plus = |mut a: Gradient, b: Gradient| {
        for (var, slope) in b {
            *a.entry(var).or_insert(Base::ZERO) += slope;
        }
        a
    };
    match poly {
        Poly::Constant(value) => (*value, Gradient::new()),
        Poly::Read(read) => {
            let var = match read {
                Read::Advice(column, rotation) => Some(Var::Cell((COLUMNS[*column], below(row, *rotation)))),
                Read::Instance(_, rotation) => Some(Var::Public(below(row, *rotation))),
                Read::Fixed(..) | Read::Selector(_) => None,
            };
            (values(*read), var.map(|var| (var, Base::ONE)).into_iter().collect())
        }
        Poly::Negated(a) => scaled(derive(a, row, values), -Base::ONE),
        Poly::Scaled(a, scale) => scaled(derive(a, row, values), *scale),
        Poly::Sum(a, b) => {
            let (a, b) = (derive(a, row, values), derive(b, row, values));
            (a.0 + b.0, plus(a.1, b.1))
        }
        Poly::Product(a, b) => {
            let (a, b) = (derive(a, row, values), derive(b, row, values));
            let value = a.0 * b.0;
            let (by_a, by_b) = (scaled(a.clone(), b.0).1, scaled(b, a.0).1);
            (value, plus(by_a, by_b))
        }
    }
}

#[test]
fn the_equations_are_all_that_there_are() {
    let system = System::of(&Honest::new(1).empty_circuit());
    assert_eq!(system.constraints(), super::constraints::all());
    let names: Vec<_> = system.description.gates.iter().map(|gate| (&gate.name, gate.polynomials.len())).collect();
    let known: Vec<_> = super::constraints::GATES.iter().map(|gate| (&gate.name, gate.polynomials)).collect();
    assert_eq!(names, known);
}

/// On honest spends, on all attacks by hand, and on a sample of cells changed alone.
#[test]
fn the_equations_say_what_the_mock_prover_says() {
    let cheater = Cheater::new(1);
    let system = System::of(&cheater.circuit);
    let mut fillings = vec![cheater.fill(&[])];
    for all in [forgeries::all, forgeries::wide_digits, balance::all, identity::all] {
        fillings.extend(all(&cheater).into_iter().map(|attack| attack.filling));
    }
    let honest = cheater.fill(&[]);
    for at in CELLS.iter().step_by(11) {
        let mut trace = copy(&honest.trace);
        trace.set(*at, trace.get(*at) + Base::from(3));
        fillings.push(Filling { trace, instance: honest.instance });
    }
    let different = fillings.into_par_iter().find_any(|Filling { trace, instance }| {
        system.refusals(trace, instance) != super::constraints::refusals(&cheater.circuit, copy(trace), instance)
    });
    assert!(different.is_none());
}

/// The derivatives are those that differences show: for a polynomial of degree 6, exactly, by interpolation in one variable.
#[test]
fn derivatives_agree_with_differences() {
    let cheater = Cheater::new(2);
    let system = System::of(&cheater.circuit);
    let Filling { mut trace, instance } = cheater.fill(&[]);
    // f'(0) of a polynomial of degree at most 6 from its values at -3..=3: the weights of the central difference.
    let weights = [-1i64, 9, -45, 0, 45, -9, 1];
    let sixtieth = Base::from(60).invert().expect("60 is not 0");
    for place in system.places.iter().step_by(17) {
        let at = |trace: &Trace, read| system.read(place.row, read, &|var| look(trace, &instance, var));
        let gradient = derive(system.poly(place), place.row, &|read| at(&trace, read)).1;
        for (var, slope) in gradient {
            let Var::Cell(cell) = var else { continue };
            let honest = trace.get(cell);
            let mut sum = Base::ZERO;
            for (step, weight) in (-3i64..=3).zip(weights) {
                trace.set(cell, honest + signed(step));
                sum += signed(weight) * value(system.poly(place), &|read| at(&trace, read));
            }
            trace.set(cell, honest);
            assert_eq!(sum * sixtieth, slope, "{:?} {cell:?}", system.constraint(place));
        }
    }
}

fn signed(n: i64) -> Base {
    let value = Base::from(n.unsigned_abs());
    if n < 0 { -value } else { value }
}
