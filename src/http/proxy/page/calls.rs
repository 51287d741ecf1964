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
        Some(refund) => grouped(spend.charge.micro().saturating_sub(refund.micro()).into()),
    };
    let key = request.filter(|_| call).map_or_else(String::new, |request| name(request.budget.as_deref()));
    // The gateway keeps an answer that costs more than the class, and with it the whole charge.
    let whole = match refund {
        Some(Credits::ZERO) if call => {
            "<br><span class=\"note\">took its whole class: most likely withheld, or cut short, as the class was too small</span>"
        }
        _ => "",
    };
    let beside =
        if call { format!("<span class=\"narrow soft\"><br>{key}, class {charge}</span>") } else { String::new() };
    let at = when(entry.pinned_at);
    let (year, rest) = at.trim_end_matches(" UTC").split_at_checked(5).unwrap_or(("", &at));
    Some(format!(
        "<tr><td><span class=\"wide\">{year}</span>{rest}</td><td class=\"text left\">{what}{beside}{whole}</td>\
         <td class=\"wide\">{key}</td><td class=\"wide\">{charge}</td><td>{cost}</td></tr>",
    ))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
