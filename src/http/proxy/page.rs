//! The page of a proxy: one document, made here whole, without scripts and without anything from elsewhere.

mod calls;
mod keys;
mod lanes;
mod plot;
mod wrong;

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header;

use super::local::KeysView;
use crate::http::html::{duration, escape, grouped, policy, utc};
use crate::http::payer::View;
use crate::protocol::Timestamp;

const TEMPLATE: &str = include_str!("page.html");
/// How often it asks for itself again, seconds.
const REFRESH: u64 = 15;

static POLICY: LazyLock<String> = LazyLock::new(|| policy(TEMPLATE));

pub(super) fn answer(view: &View, keys: &KeysView, under_way: usize) -> Response {
    let page = render(view, keys, under_way);
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY.as_str())];
    (policy, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

fn render(view: &View, keys: &KeysView, under_way: usize) -> String {
    let found = wrong::look(view, keys);
    let pays = found.iter().all(|finding| !finding.stops);
    let standing = if pays { "pays for calls" } else { "cannot pay for calls now" };
    let body = [
        wrong::section(&found),
        cards(view, under_way),
        "<div class=\"pair\">\n".to_owned(),
        lanes::balance(view),
        plot::section(view),
        "</div>\n".to_owned(),
        keys::section(view, keys),
        calls::section(view),
        lanes::section(view),
        identity(view),
    ];
    let parts = [
        ("{refresh}", REFRESH.to_string()),
        ("{state}", if pays { "good" } else { "bad" }.to_owned()),
        ("{standing}", standing.to_owned()),
        ("{taken}", when(view.now)),
        ("{body}", body.concat()),
    ];
    parts.iter().fold(TEMPLATE.to_owned(), |page, (name, text)| page.replace(name, text))
}

fn cards(view: &View, under_way: usize) -> String {
    let status = &view.status;
    let today = view.spending.day(view.now);
    let mut spent = crate::wallet::Spent::default();
    for (_, budgets) in view.spending.days().take_while(|(day, _)| *day >= today) {
        for (_, sum) in budgets {
            spent.calls += sum.calls;
            spent.cost += sum.cost;
            spent.reserved += sum.reserved;
        }
    }
    let sums = lanes::Sums::of(view);
    let held = grouped(status.balance.reserved);
    let cards = [
        (
            "the wallet has",
            grouped(status.balance.total()),
            format!("{} can be spent", grouped(sums.ready + sums.able)),
        ),
        (
            "spent today",
            grouped(spent.cost),
            format!("{} calls; {held} held by calls under way", grouped(spent.calls.into())),
        ),
        ("calls at once", status.ready.to_string(), format!("lanes with a proof ready, {} being made", status.proving)),
        ("requests under way", under_way.to_string(), format!("{} wait for a spend", status.waiting_calls)),
    ];
    let card = |(name, number, more): &(&str, String, String)| {
        format!(
            "<div class=\"card\"><span class=\"soft\">{name}</span><span class=\"number\">{number}</span>\
             <span class=\"soft\">{more}</span></div>\n"
        )
    };
    format!("<div class=\"cards\">\n{}</div>\n", cards.iter().map(card).collect::<String>())
}

fn identity(view: &View) -> String {
    let clock = crate::http::payer::clock_off(&view.origin)
        .map_or_else(|| "as that of the gateway".to_owned(), |off| off.to_string());
    let reached = view.away.as_ref().map_or("there", |_| "cannot be reached");
    let epoch = |epoch: &crate::http::payer::EpochView| {
        let left = |until: Timestamp| duration(until.seconds().saturating_sub(view.now.seconds()));
        let what = match () {
            () if view.now >= epoch.spendable_until => "over".to_owned(),
            () if view.now < epoch.spendable_from => format!("not yet; from {}", when(epoch.spendable_from)),
            () if epoch.issues => {
                format!(
                    "issues; its notes can be spent for {} more, until {}",
                    left(epoch.spendable_until),
                    when(epoch.spendable_until)
                )
            }
            () => format!(
                "its notes can be spent for {} more, until {}",
                left(epoch.spendable_until),
                when(epoch.spendable_until)
            ),
        };
        format!("<tr><td>epoch {}</td><td class=\"text\">{what}</td></tr>", epoch.number)
    };
    let epochs: String = view.epochs.iter().map(epoch).collect();
    format!(
        "<section class=\"card\"><h2>Where it pays</h2><table>\
         <tr><td>gateway</td><td class=\"text\">{reached}, at {}<br><code>{}</code></td></tr>\
         <tr><td>class of a call</td><td class=\"text\">{}</td></tr>\
         <tr><td>clock of this machine</td><td class=\"text\">{}</td></tr>\
         {epochs}<tr><td>directory</td><td>number {}</td></tr></table></section>\n",
        escape(&view.origin),
        escape(&view.gateway.to_string()),
        class_words(view),
        escape(&clock),
        view.status.serial,
    )
}

fn class_words(view: &View) -> String {
    let (least, most) = (grouped(view.least_class.micro().into()), grouped(view.class.micro().into()));
    if least == most { most } else { format!("{least} to {most}, as each needs") }
}

fn when(at: Timestamp) -> String {
    utc(at.seconds())
}

/// A piece of a colour beside a name. An SVG, as the page's policy lets no element have a style of its own.
fn swatch(class: &str) -> String {
    format!(
        "<svg class=\"key\" viewBox=\"0 0 10 10\" aria-hidden=\"true\"><rect class=\"{class}\" width=\"10\" height=\"10\" rx=\"2.5\"/></svg>"
    )
}

/// Parts of a whole side by side, in thousandths of it.
fn bar(parts: &[(&str, u128)], whole: u128, label: &str) -> String {
    let mut out = format!(
        "<svg viewBox=\"0 0 1000 12\" height=\"12\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">\
         <rect class=\"rest\" width=\"1000\" height=\"12\"/>",
        escape(label)
    );
    let mut at = 0;
    for (class, part) in parts {
        let wide = part.saturating_mul(1_000).checked_div(whole).unwrap_or(0);
        // What is there can be seen.
        let wide = wide.max(u128::from(*part > 0) * 4).min(1_000_u128.saturating_sub(at));
        if wide > 0 {
            out += &format!("<rect class=\"{class}\" x=\"{at}\" width=\"{wide}\" height=\"12\"/>");
            at += wide;
        }
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_from_anywhere_and_runs_nothing() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        for loader in
            ["<script", " src=", "url(", "@import", "<link rel=\"style", "http://", "https://", " style=", "<form"]
        {
            assert!(!TEMPLATE.contains(loader), "{loader}");
        }
    }

    #[test]
    fn bars_never_leave_their_frame() {
        let drawn = bar(&[("a", 999), ("b", 1), ("c", 0)], 1_000, "x");
        assert!(
            drawn.contains("class=\"a\" x=\"0\" width=\"999\"") && drawn.contains("class=\"b\" x=\"999\" width=\"1\"")
        );
        assert!(!drawn.contains("class=\"c\""));
        assert_eq!(bar(&[("a", 5)], 0, "x").matches("<rect").count(), 2);
    }
}
