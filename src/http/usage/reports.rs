//! What a service has reported of a call so far.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Usage;
use super::dialects::{Form, PLACES};
use super::paths::{Choice, at, count, each};

/// More choices than any service gives at a time.
const CHOICES: usize = 256;

/// One report: what it says, and nothing where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Report {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
}

impl Report {
    fn read(usage: &Value, form: &Form) -> Self {
        let number = |path: &&str| at(usage, path).and_then(count);
        let groups = [form.input, form.input_beside, form.output, form.output_beside, form.total];
        let unusable = |path: &&str| at(usage, path).is_some_and(|value| !value.is_null() && count(value).is_none());
        // What says something that is no count says nothing that is sure.
        if groups.into_iter().flatten().any(unusable) {
            return Self::default();
        }
        let first = |names: &[&str]| names.iter().find_map(number);
        let all = |names: &[&str]| names.iter().filter_map(number).reduce(u64::saturating_add);
        let plus = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            _ => one.or(other),
        };
        // What is read from a cache is beside an input, and no input by itself.
        let input = first(form.input).map(|input| input.saturating_add(all(form.input_beside).unwrap_or(0)));
        let output = plus(first(form.output), all(form.output_beside));
        let within = first(form.output_within);
        // More than what it should be a part of is no part of it.
        let beside = within.filter(|within| output.is_some_and(|output| *within > output));
        Self { input, output: plus(output, beside), total: first(form.total) }.complete()
    }

    /// What a total says more than its parts was written: what was read is said by every service.
    fn complete(self) -> Self {
        let rest = |known: u64| self.total.map(|total| total.saturating_sub(known));
        match (self.input, self.output) {
            (Some(input), output) => Self { output: output.max(rest(input)), ..self },
            (None, Some(output)) => Self { input: rest(output), ..self },
            (None, None) => self,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            input: self.input.or(other.input),
            output: self.output.or(other.output),
            total: self.total.or(other.total),
        }
        .complete()
    }

    fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Zeros are what services write where they do not know yet.
    fn is_nothing(&self) -> bool {
        [self.input, self.output, self.total].into_iter().flatten().all(|number| number == 0)
    }
}

/// All reports of a call, as one that never falls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports {
    input: Option<u64>,
    /// Output that was told of no choice.
    output: Option<u64>,
    /// Output by choice.
    choices: BTreeMap<Choice, u64>,
    /// Input and output, where they were not told apart.
    total: Option<u64>,
    /// The last output that was told of a choice; and whether all of them rose, whatever choice they were of.
    last: u64,
    mixed: bool,
    /// Whether nothing but zeros was reported.
    nothing: bool,
}

/// What an event reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    /// Whether any of it was more than zero.
    pub(crate) something: bool,
    /// Whether output was reported.
    pub(crate) output: bool,
}

impl Reports {
    /// Reads what an event, or a whole answer, reports. None if nothing.
    pub(crate) fn read(&mut self, event: &Value) -> Option<Reported> {
        let mut found: BTreeMap<(&str, Choice), Report> = BTreeMap::new();
        // A report that comes with one choice is of this one.
        let alone = match event.get("choices").and_then(Value::as_array).map(Vec::as_slice) {
            Some([choice]) => choice.get("index").and_then(count),
            _ => None,
        };
        for place in PLACES {
            each(event, place.at, &mut |choice, usage| {
                let report = Report::read(usage, place.form);
                let known = found.entry((place.at, choice)).or_default();
                *known = known.or(report);
            });
        }
        found.retain(|_, report| !report.is_empty());
        let by_choice = |at: &str, choice: Choice| if at.contains("[]") { Some(choice) } else { alone };
        for ((at, choice), report) in &found {
            self.add(*report, by_choice(at, *choice));
        }
        (!found.is_empty()).then(|| Reported {
            something: found.values().any(|report| !report.is_nothing()),
            output: found.values().any(|report| report.output.is_some_and(|output| output > 0)),
        })
    }

    fn add(&mut self, report: Report, choice: Option<Choice>) {
        if report.is_nothing() {
            self.nothing = true;
            return;
        }
        self.input = self.input.max(report.input);
        if report.input.is_none() && report.output.is_none() {
            self.total = self.total.max(report.total);
        }
        let Some(output) = report.output else { return };
        match choice {
            Some(choice) if self.choices.len() < CHOICES || self.choices.contains_key(&choice) => {
                self.mixed |= output <= self.last;
                self.last = output;
                let known = self.choices.entry(choice).or_default();
                *known = output.max(*known);
            }
            _ => self.output = self.output.max(Some(output)),
        }
    }

    /// Whether anything is reported, zeros included.
    pub(crate) fn is_any(&self) -> bool {
        self.nothing
            || self.input.is_some()
            || self.output.is_some()
            || self.total.is_some()
            || !self.choices.is_empty()
    }

    pub(crate) fn input(&self) -> Option<u64> {
        self.input
    }

    /// What was written, all choices together. If the counts of choices rose from one to the next whatever choice they were of, each may
    /// be of all choices so far: then a report of them all decides.
    pub(crate) fn output(&self) -> Option<u64> {
        let sum = self.choices.values().copied().reduce(u64::saturating_add);
        let of_all = !self.mixed && self.output >= self.choices.values().copied().max();
        if of_all && self.output.is_some() { self.output } else { self.output.max(sum) }
    }

    /// What was written at the very least, however the reports are meant.
    pub(crate) fn least_output(&self) -> u64 {
        self.output.max(self.choices.values().copied().max()).unwrap_or(0)
    }

    /// What the call used: what was reported, and an estimate of what was not. Zeros, where `said` tells that there was more, are no report.
    pub(crate) fn usage(&self, estimate: Usage, said: bool) -> Usage {
        let output = self.output().filter(|output| *output > 0 || !said);
        match (self.input, output, self.total) {
            (None, None, Some(total)) => {
                let input = estimate.input.min(total);
                Usage { input, output: total - input }
            }
            (None, None, None) if self.nothing && !said => Usage::default(),
            (input, output, _) => {
                Usage { input: input.unwrap_or(estimate.input), output: output.unwrap_or(estimate.output) }
            }
        }
    }
}
