//! The keys, and how much of their caps is used.

use super::super::local::{KeyView, KeysView};
use super::{bar, when};
use crate::http::html::{escape, grouped};
use crate::http::payer::View;
use crate::protocol::Credits;
use crate::wallet::Spent;

pub(super) fn section(view: &View, keys: &KeysView) -> String {
    let KeysView::Keys(keys) = keys else { return String::new() };
    let row = |key: &KeyView| {
        let budget = &key.budget;
        let state = match budget.until {
            _ if key.revoked => "taken back".to_owned(),
            Some(until) if until <= view.now => format!("ended {}", when(until)),
            Some(until) => format!("until {}", when(until)),
            None => String::new(),
        };
        let calls = grouped(key.total.calls.into());
        format!(
            "<tr><td class=\"text\">{}{}</td><td class=\"used\">{}</td><td class=\"used\">{}</td><td class=\"wide\">{}</td><td class=\"wide\">{calls}</td></tr>",
            escape(&budget.name),
            if state.is_empty() { state } else { format!("<br><span class=\"soft\">{state}</span>") },
            used(&key.today, budget.per_day),
            used(&key.total, budget.total),
            budget.per_call.map_or_else(|| "no cap".to_owned(), |cap| grouped(cap.micro().into())),
        )
    };
    let rows: String = match keys.is_empty() {
        true => "<tr><td class=\"text soft\">none: no request is taken; `halometer wallet key new` makes one</td></tr>"
            .to_owned(),
        false => keys.iter().map(row).collect(),
    };
    format!(
        "<section class=\"card\"><h2>Keys</h2><table><tr><th>key</th><th>today</th><th>ever</th>\
         <th class=\"wide\">cap a call</th><th class=\"wide\">calls</th></tr>{rows}</table></section>\n"
    )
}

fn used(spent: &Spent, cap: Option<Credits>) -> String {
    match cap {
        None => grouped(spent.all()),
        Some(cap) => {
            let whole = u128::from(cap.micro());
            let drawn = bar(&[("k0", spent.cost), ("k6", spent.reserved)], whole, "used of the cap");
            format!("{} <span class=\"soft\">of {}</span>{drawn}", grouped(spent.all()), grouped(whole))
        }
    }
}
