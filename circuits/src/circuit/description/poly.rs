//! Polynomials of gates, as read from their debug text.

use ff::PrimeField;
use pasta_curves::pallas::Base;

use super::Element;

/// A polynomial over cells near its row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Poly {
    Constant(Base),
    /// A cell or a selector.
    Read(Read),
    Negated(Box<Poly>),
    Sum(Box<Poly>, Box<Poly>),
    Product(Box<Poly>, Box<Poly>),
    Scaled(Box<Poly>, Base),
}

/// What a polynomial reads: a column by its number, and how many rows below its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Advice(usize, i32),
    Fixed(usize, i32),
    Instance(usize, i32),
    Selector(usize),
}

/// Prefix notation: `(+ a0@0 (* s1 (scale ff a1@1)))`.
impl core::fmt::Display for Poly {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Poly::Constant(value) => Element(value).fmt(f),
            Poly::Read(read) => read.fmt(f),
            Poly::Negated(a) => write!(f, "(neg {a})"),
            Poly::Sum(a, b) => write!(f, "(+ {a} {b})"),
            Poly::Product(a, b) => write!(f, "(* {a} {b})"),
            Poly::Scaled(a, scale) => write!(f, "(scale {} {a})", Element(scale)),
        }
    }
}

impl core::fmt::Display for Read {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Read::Advice(column, rotation) => write!(f, "a{column}@{rotation}"),
            Read::Fixed(column, rotation) => write!(f, "f{column}@{rotation}"),
            Read::Instance(column, rotation) => write!(f, "i{column}@{rotation}"),
            Read::Selector(selector) => write!(f, "s{selector}"),
        }
    }
}

/// Reads debug text. It panics at what it does not know: a change of the text must be looked at, not guessed.
pub(super) struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// Whether `text` comes next; it is passed over.
    pub(super) fn accept(&mut self, text: &str) -> bool {
        self.rest.strip_prefix(text).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, text: &str) {
        assert!(self.accept(text), "expected {text} at {:.60}", self.rest);
    }

    /// The text up to `end`, which is passed over.
    fn until(&mut self, end: &str) -> &'a str {
        let (text, rest) = self.rest.split_once(end).expect("an end");
        self.rest = rest;
        text
    }

    fn element(&mut self) -> Base {
        self.expect("0x");
        let (digits, rest) = self.rest.split_at(64);
        self.rest = rest;
        let mut repr = [0; 32];
        for (i, byte) in repr.iter_mut().rev().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("hexadecimal digits");
        }
        Base::from_repr(repr).expect("a field element")
    }

    /// `{ query_index: 3, column_index: 2, rotation: Rotation(1) }`.
    fn query(&mut self) -> (usize, i32) {
        self.expect(" { query_index: ");
        self.until(", column_index: ");
        let column = self.until(", rotation: Rotation(").parse().expect("a number");
        (column, self.until(") }").parse().expect("a rotation"))
    }

    fn pair(&mut self) -> (Box<Poly>, Box<Poly>) {
        self.expect("(");
        let a = self.poly();
        self.expect(", ");
        let b = self.poly();
        self.expect(")");
        (Box::new(a), Box::new(b))
    }

    pub(super) fn poly(&mut self) -> Poly {
        if self.accept("Constant(") {
            let value = self.element();
            self.expect(")");
            Poly::Constant(value)
        } else if self.accept("Selector(Selector(") {
            let selector = self.until(", ").parse().expect("a number");
            self.until("))");
            Poly::Read(Read::Selector(selector))
        } else if self.accept("Advice") {
            let (column, rotation) = self.query();
            Poly::Read(Read::Advice(column, rotation))
        } else if self.accept("Fixed") {
            let (column, rotation) = self.query();
            Poly::Read(Read::Fixed(column, rotation))
        } else if self.accept("Instance") {
            let (column, rotation) = self.query();
            Poly::Read(Read::Instance(column, rotation))
        } else if self.accept("Negated(") {
            let a = self.poly();
            self.expect(")");
            Poly::Negated(Box::new(a))
        } else if self.accept("Sum") {
            let (a, b) = self.pair();
            Poly::Sum(a, b)
        } else if self.accept("Product") {
            let (a, b) = self.pair();
            Poly::Product(a, b)
        } else if self.accept("Scaled(") {
            let a = self.poly();
            self.expect(", ");
            let scale = self.element();
            self.expect(")");
            Poly::Scaled(Box::new(a), scale)
        } else {
            panic!("no expression: {:.60}", self.rest)
        }
    }
}
