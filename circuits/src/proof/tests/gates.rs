//! The gates and queries that are written down a second time in `fast`, against the text of the verifying key.

use ff::{Field, PrimeField};

use super::support::*;
use crate::circuit::{Col, FIXED};
use crate::hash::pow5;
use crate::proof::fast::{ADVICE_QUERIES, Cells, GATES, Gates, Rotation};
use crate::proof::sums::Scalar;

/// An expression as `halo2_proofs` writes it.
#[derive(Debug)]
enum Text {
    Constant(Scalar),
    Fixed(usize),
    Advice(usize, i32),
    Instance,
    Negated(Box<Text>),
    Sum(Box<Text>, Box<Text>),
    Product(Box<Text>, Box<Text>),
    Scaled(Box<Text>, Scalar),
}

struct Parser<'a>(&'a str);

impl Parser<'_> {
    fn skip(&mut self, text: &str) {
        self.0 =
            self.0.strip_prefix(text).unwrap_or_else(|| panic!("{text:?} in {:?}", &self.0[..80.min(self.0.len())]));
    }

    fn until(&mut self, ends: &[char]) -> String {
        let end = self.0.find(ends).expect("an end");
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word.to_owned()
    }

    fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(&mut self) -> T {
        self.until(&[',', ')', ' ', '}']).parse().expect("a number")
    }

    fn scalar(&mut self) -> Scalar {
        self.skip("0x");
        let hex = self.until(&[',', ')']);
        let mut repr = [0; 32];
        for (i, byte) in repr.iter_mut().rev().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex");
        }
        Scalar::from_repr(repr).unwrap()
    }

    /// `{ query_index: 1, column_index: 2, rotation: Rotation(1) }`
    fn query(&mut self) -> (usize, i32) {
        self.skip("{ query_index: ");
        let _: usize = self.number();
        self.skip(", column_index: ");
        let column = self.number();
        self.skip(", rotation: Rotation(");
        let rotation = self.number();
        self.skip(") }");
        (column, rotation)
    }

    fn expression(&mut self) -> Text {
        let name = self.until(&['(', ' ']);
        if let "Fixed" | "Advice" | "Instance" = &*name {
            self.skip(" ");
            let (column, rotation) = self.query();
            return match &*name {
                "Fixed" => {
                    assert_eq!(rotation, 0);
                    Text::Fixed(column)
                }
                "Advice" => Text::Advice(column, rotation),
                _ => {
                    assert_eq!((column, rotation), (0, 0));
                    Text::Instance
                }
            };
        }
        self.skip("(");
        let expression = match &*name {
            "Constant" => Text::Constant(self.scalar()),
            "Negated" => Text::Negated(Box::new(self.expression())),
            "Sum" | "Product" => {
                let a = Box::new(self.expression());
                self.skip(", ");
                let b = Box::new(self.expression());
                if name == "Sum" { Text::Sum(a, b) } else { Text::Product(a, b) }
            }
            "Scaled" => {
                let a = Box::new(self.expression());
                self.skip(", ");
                Text::Scaled(a, self.scalar())
            }
            _ => panic!("{name}"),
        };
        self.skip(")");
        expression
    }
}

impl Text {
    fn evaluate(&self, cells: &Cells) -> Scalar {
        match self {
            Self::Constant(value) => *value,
            Self::Fixed(column) => cells.fixed[*column],
            Self::Advice(column, 0) => cells.now[*column],
            Self::Advice(column, 1) => cells.next[*column],
            Self::Advice(_, rotation) => panic!("{rotation}"),
            Self::Instance => cells.instance,
            Self::Negated(a) => -a.evaluate(cells),
            Self::Sum(a, b) => a.evaluate(cells) + b.evaluate(cells),
            Self::Product(a, b) => a.evaluate(cells) * b.evaluate(cells),
            Self::Scaled(a, factor) => a.evaluate(cells) * factor,
        }
    }
}

fn description() -> String {
    Epoch::new(1).key.verifying_key().description()
}

/// The list that follows `name`.
fn list<'a>(description: &'a str, name: &str) -> &'a str {
    let (_, rest) = description.split_once(&format!(" {name}: [")).expect("a list");
    rest
}

#[test]
fn each_gate_is_the_expression_of_the_key() {
    let description = description();
    let mut parser = Parser(list(&description, "gates"));
    let mut expressions = vec![parser.expression()];
    while parser.0.starts_with(", ") {
        parser.skip(", ");
        expressions.push(parser.expression());
    }
    parser.skip("], advice_queries");
    assert_eq!(expressions.len(), GATES);

    let mut rng = rng(1);
    for _ in 0..20 {
        let now: [Scalar; Col::COUNT] = core::array::from_fn(|_| Scalar::random(&mut rng));
        let next: [Scalar; Col::COUNT - 1] = core::array::from_fn(|_| Scalar::random(&mut rng));
        let cells = Cells {
            now,
            next,
            now_fifth: core::array::from_fn(|i| pow5(now[i])),
            next_fifth: core::array::from_fn(|i| pow5(next[i])),
            fixed: core::array::from_fn::<_, FIXED, _>(|_| Scalar::random(&mut rng)),
            instance: Scalar::random(&mut rng),
        };
        let values: Vec<_> = expressions.iter().map(|expression| expression.evaluate(&cells)).collect();
        for (i, value) in values.iter().enumerate() {
            let alone = core::array::from_fn(|j| if i == j { Scalar::ONE } else { Scalar::ZERO });
            assert_eq!(Gates::new(alone).at(&cells), *value, "polynomial {i}");
        }
        let weights: [Scalar; GATES] = core::array::from_fn(|_| Scalar::random(&mut rng));
        let sum = values.iter().zip(&weights).fold(Scalar::ZERO, |sum, (value, weight)| sum + *value * weight);
        assert_eq!(Gates::new(weights).at(&cells), sum);
    }
}

#[test]
fn queries_are_those_of_the_key() {
    let description = description();
    let queries = |name: &str, kind: &str| -> Vec<(usize, i32)> {
        let list = list(&description, name);
        let (list, _) = list.split_once(']').expect("an end");
        let end = format!(", column_type: {kind} }}, Rotation(");
        let entries = list.split("(Column { index: ").skip(1);
        entries
            .map(|entry| {
                let (index, rest) = entry.split_once(&end).expect("a column of this kind");
                (index.parse().expect("a number"), rest.split_once(')').expect("an end").0.parse().expect("a number"))
            })
            .collect()
    };
    let ours: Vec<_> = ADVICE_QUERIES
        .iter()
        .map(|(column, rotation)| (column.index(), if *rotation == Rotation::Next { 1 } else { 0 }))
        .collect();
    assert_eq!(queries("advice_queries", "Advice"), ours);
    assert_eq!(queries("fixed_queries", "Fixed"), (0..FIXED).map(|column| (column, 0)).collect::<Vec<_>>());
    assert_eq!(queries("instance_queries", "Instance"), [(0, 0)]);
}
