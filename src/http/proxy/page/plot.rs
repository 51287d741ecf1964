//! Spending over time, by day and by key.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::swatch;
use crate::http::html::{date, escape, grouped};
use crate::http::payer::View;

/// Days that are drawn.
const DAYS: u64 = 30;
/// Keys that have a colour of their own; the others share the last.
const COLOURS: [&str; 7] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6"];
/// Of the picture, in units of its own.
const HEIGHT: u128 = 150;

pub(super) fn section(view: &View) -> String {
    let last = view.spending.day(view.now);
    let first = last.saturating_sub(DAYS - 1);
    // Sums by day and key, and by key.
    let mut days: BTreeMap<u64, Vec<(Option<&str>, u128)>> = BTreeMap::new();
    let mut keys: BTreeMap<Option<&str>, u128> = BTreeMap::new();
    for (day, budgets) in view.spending.days().take_while(|(day, _)| *day >= first) {
        for (key, spent) in budgets {
            days.entry(day).or_default().push((key, spent.all()));
            *keys.entry(key).or_default() += spent.all();
        }
    }
    let mut order: Vec<(Option<&str>, u128)> = keys.into_iter().collect();
    order.sort_by_key(|(key, sum)| (core::cmp::Reverse(*sum), *key));
    let colour = |key: Option<&str>| {
        let at = order.iter().position(|(known, _)| *known == key).unwrap_or(COLOURS.len());
        COLOURS[at.min(COLOURS.len() - 1)]
    };
    let most = days.values().map(|keys| keys.iter().map(|(_, sum)| sum).sum::<u128>()).max().unwrap_or(0).max(1);
    let mut bars = String::new();
    for (day, mut sums) in days {
        sums.sort_by_key(|(key, _)| order.iter().position(|(known, _)| known == key));
        let mut top = HEIGHT;
        for (key, sum) in sums {
            let height = (sum.saturating_mul(HEIGHT) / most).max(u128::from(sum > 0)).min(top);
            top -= height;
            let _ = write!(
                bars,
                "<rect class=\"{}\" x=\"{}\" y=\"{top}\" width=\"8\" height=\"{height}\"><title>{} {}: {}</title></rect>",
                colour(key),
                10 * (day - first) + 1,
                date(day),
                name(key),
                grouped(sum)
            );
        }
    }
    let item = |(at, (key, sum)): (usize, &(Option<&str>, u128))| {
        let colour = swatch(COLOURS[at.min(COLOURS.len() - 1)]);
        format!("<li>{colour}{} <span class=\"soft\">{}</span></li>", name(*key), grouped(*sum))
    };
    let legend: String = order.iter().enumerate().map(item).collect();
    let legend = if legend.is_empty() { "<li class=\"soft\">nothing was spent yet</li>".to_owned() } else { legend };
    let half = HEIGHT / 2;
    // The labels are no part of what is stretched: they would be stretched too.
    format!(
        "<section class=\"card\"><h2>Spent <span class=\"soft\">a day (UTC) in 30 days, by key</span></h2>\
         <div class=\"chart\"><div class=\"axis\"><span>{}</span><span>{}</span><span>0</span></div>\
         <svg viewBox=\"0 0 {} {HEIGHT}\" height=\"150\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"spending of each day\">\
         <rect class=\"rest\" width=\"300\" height=\"1\"/><rect class=\"rest\" y=\"{half}\" width=\"300\" height=\"1\"/>\
         <rect class=\"rest\" y=\"{}\" width=\"300\" height=\"1\"/>{bars}</svg></div>\
         <div class=\"times\"><span>{}</span><span>{}</span><span>{}</span></div>\
         <ul class=\"legend\">{legend}</ul></section>\n",
        grouped(most),
        if most > 1 { grouped(most / 2) } else { String::new() },
        10 * DAYS,
        HEIGHT - 1,
        date(first),
        date(first + DAYS / 2),
        date(last),
    )
}

pub(super) fn name(key: Option<&str>) -> String {
    key.map_or_else(|| "without a key".to_owned(), escape)
}
