//! The last calls.

use super::{plot::name, when};
use crate::http::html::{escape, grouped};
use crate::http::payer::View;
use crate::protocol::{Credits, Purpose, Spend};
use crate::wallet::JournalEntry;

/// Characters of a target that are shown.
const LONGEST: usize = 80;

pub(super) fn section(view: &View) -> String {
    let rows: String = view.recent.iter().filter_map(row).collect();
    let rows = match rows.is_empty() {
        true => "<tr><td class=\"soft\">there was none yet</td></tr>".to_owned(),
        false => rows,
    };
    format!(
        "<section class=\"card\"><h2>Last calls</h2><table><tr><th>time</th><th class=\"left\">call</th>\
         <th class=\"wide\">key</th><th class=\"wide\">class</th><th>cost</th></tr>{rows}</table></section>\n"
    )
}

fn row(entry: &JournalEntry) -> Option<String> {
    // A spend may lack its proof, which is its end and of no matter here.
    let mut bytes = entry.spend.clone();
    bytes.resize(Spend::LENGTH.max(bytes.len()), 0);
    let spend = Spend::from_bytes(&bytes).ok()?;
    let request = entry.request.as_ref();
    let what = match (&spend.purpose, request) {
        (Purpose::Transfer { .. }, _) => "credit moved between lanes".to_owned(),
        (Purpose::Rollover, _) => "rolled over into a newer epoch".to_owned(),
        (_, Some(request)) => format!("{} {}", escape(&request.method), escape(&shortened(&request.target))),
        (_, None) => "a call".to_owned(),
    };
    let call = spend.purpose == Purpose::Session;
    let charge = if call { grouped(spend.charge.micro().into()) } else { String::new() };
    let refund = entry.settlement.as_ref().map(|settlement| settlement.refund);
    let cost = match refund {
        _ if !call => "0".to_owned(),
        None => "<span class=\"note\">not settled yet</span>".to_owned(),
        Some(refund) if refund == Credits::ZERO => {
            format!(
                "{charge}<br><span class=\"note\">all of the class: withheld or cut short, if it was too small</span>"
            )
        }
        Some(refund) => grouped(spend.charge.micro().saturating_sub(refund.micro()).into()),
    };
    let key = request.filter(|_| call).map_or_else(String::new, |request| name(request.budget.as_deref()));
    Some(format!(
        "<tr><td class=\"time\">{}</td><td class=\"left\">{what}</td><td class=\"wide\">{key}</td><td class=\"wide\">{charge}</td><td>{cost}</td></tr>",
        when(entry.pinned_at).trim_end_matches(" UTC"),
    ))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
