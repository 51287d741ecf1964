//! What was measured, under its name.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// Named figures, in the order in which they were measured.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<(String, Figure)>);

#[derive(Debug)]
enum Figure {
    Text(String),
    Number(f64),
    Samples(Samples),
}

/// Repeated measurements of one thing, in one unit. Not empty.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// Times `work` `count` times, in milliseconds.
    pub(super) fn time<T>(count: usize, mut work: impl FnMut(usize) -> T) -> Self {
        let once = |i| {
            let start = Instant::now();
            std::hint::black_box(work(i));
            milliseconds(start.elapsed())
        };
        Self::of((0..count).map(once).collect())
    }

    /// Takes measurements.
    pub(super) fn of(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "something was measured");
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    pub(super) fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self::of(self.0.into_iter().map(f).collect())
    }

    pub(super) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) { f64::midpoint(self.0[middle - 1], self.0[middle]) } else { self.0[middle] }
    }

    /// The sample below which this part of all lies.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * part).round() as usize]
    }

    fn min(&self) -> f64 {
        self.0[0]
    }

    fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// In milliseconds.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Figures {
    pub(super) fn text(&mut self, name: &str, text: impl Into<String>) {
        self.0.push((name.into(), Figure::Text(text.into())));
    }

    pub(super) fn number(&mut self, name: &str, number: f64) {
        self.0.push((name.into(), Figure::Number(number)));
    }

    pub(super) fn samples(&mut self, name: &str, samples: Samples) {
        self.0.push((name.into(), Figure::Samples(samples)));
    }

    /// One flat object: `NAME` for a figure, and for a distribution its median, and `NAME_p50`, `NAME_min`, `NAME_max` too.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        for (name, figure) in &self.0 {
            match figure {
                Figure::Text(text) => drop(object.insert(name.clone(), text.clone().into())),
                Figure::Number(number) => drop(object.insert(name.clone(), round(*number).into())),
                Figure::Samples(samples) => {
                    object.insert(name.clone(), round(samples.median()).into());
                    for (suffix, value) in [("p50", samples.median()), ("min", samples.min()), ("max", samples.max())] {
                        object.insert(format!("{name}_{suffix}"), round(value).into());
                    }
                }
            }
        }
        Value::Object(object)
    }
}

/// Four digits after the point are more than any of this is worth.
fn round(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, figure) in &self.0 {
            match figure {
                Figure::Text(text) => writeln!(f, "{name:width$}  {text}")?,
                Figure::Number(number) => writeln!(f, "{name:width$}  {:>10}", round(*number))?,
                Figure::Samples(samples) => writeln!(
                    f,
                    "{name:width$}  {:>10.3}   ({:.3} to {:.3}, {} samples)",
                    samples.median(),
                    samples.min(),
                    samples.max(),
                    samples.0.len()
                )?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_its_median_and_spread() {
        let mut figures = Figures::default();
        figures.samples("x_ms", Samples::of(vec![4.0, 1.0, 2.0, 3.0]));
        figures.number("n", 5.0);
        figures.text("t", "text");
        let json = figures.to_json();
        assert_eq!(json["x_ms"], 2.5);
        assert_eq!(json["x_ms_p50"], 2.5);
        assert_eq!(json["x_ms_min"], 1.0);
        assert_eq!(json["x_ms_max"], 4.0);
        assert_eq!(json["n"], 5.0);
        assert_eq!(json["t"], "text");
        assert!(json.as_object().unwrap().values().all(|value| !value.is_object()), "flat");
    }
}
