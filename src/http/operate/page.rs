//! The status page: one document, made here whole, without scripts and without anything from elsewhere.

use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::header;

use super::status::{CreditsStatus, EpochStatus, StatusReport};
use crate::http::html::{duration, escape, grouped, policy, utc};

const TEMPLATE: &str = include_str!("page.html");

static POLICY: LazyLock<String> = LazyLock::new(|| policy(TEMPLATE));

/// The page as an answer. It asks for itself again when there may be other numbers.
pub(super) fn answer(
    status: Option<&StatusReport>,
    ready: Result<(), String>,
    history: &[u64],
    every: Duration,
) -> Response {
    let page = render(status, ready, history, every);
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY.as_str())];
    (policy, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

fn render(status: Option<&StatusReport>, ready: Result<(), String>, history: &[u64], every: Duration) -> String {
    let standing = ready.as_ref().map_or_else(Clone::clone, |()| "taking calls".to_owned());
    let refresh = if status.is_some() { every.as_secs().clamp(2, 3_600) } else { 2 };
    let taken = status.map_or_else(|| "no time yet".to_owned(), |status| utc(status.gateway.taken));
    let body = status.map_or_else(|| "<p>The numbers come in a moment.</p>".to_owned(), |status| body(status, history));
    let parts = [
        ("{refresh}", refresh.to_string()),
        ("{state}", if ready.is_ok() { "ready" } else { "not-ready" }.to_owned()),
        ("{standing}", escape(&standing)),
        ("{taken}", taken),
        ("{every}", every.as_secs().to_string()),
        ("{body}", body),
    ];
    parts.iter().fold(TEMPLATE.to_owned(), |page, (name, text)| page.replace(name, text))
}

fn body(status: &StatusReport, history: &[u64]) -> String {
    let mut out = String::new();
    if !status.upkeep.warnings.is_empty() {
        let items: String = status.upkeep.warnings.iter().map(|text| format!("<li>{}</li>", escape(text))).collect();
        out += &format!("<section class=\"card warnings\"><h2>To look at</h2><ul>{items}</ul></section>\n");
    }
    out += "<div class=\"cards\">\n";
    let outstanding =
        status.credits.as_ref().map_or_else(|| nothing(status).to_owned(), |credits| grouped(credits.outstanding));
    for (name, number, more) in [
        ("calls admitted", grouped(status.calls.admitted.into()), format!("{:.2} a second", status.calls.per_second)),
        ("outstanding micro-credits", outstanding, "what callers still have".to_owned()),
        (
            "proofs verified",
            grouped(status.proofs.verified.into()),
            format!("{:.2} a second, {}", status.proofs.per_second, each(status)),
        ),
        (
            "in the queue",
            grouped(status.load.waiting as u128),
            format!("{} requests running, {} sessions open", status.load.requests, status.load.sessions),
        ),
    ] {
        let _ = writeln!(
            out,
            "<div class=\"card\"><span class=\"soft\">{name}</span><span class=\"number\">{number}</span><span class=\"soft\">{more}</span></div>"
        );
    }
    out += "</div>\n";
    out += &credits(status);
    out += "<div class=\"pair\">\n";
    out += &picture(history, status.gateway.every_seconds);
    out += &counts("Refused", "by problem", &status.calls.refused);
    out += &counts("The service behind did not answer", "by kind", &status.upstream_failures);
    out += &more(status);
    out += "</div>\n";
    out += &status.replicas.as_ref().map(super::ReplicasStatus::card).unwrap_or_default();
    out += &epochs(&status.epochs, nothing(status));
    out += &identity(status);
    out
}

/// In place of what the books would say.
fn nothing(status: &StatusReport) -> &'static str {
    if status.gateway.issuer_elsewhere { "elsewhere" } else { "unknown" }
}

fn each(status: &StatusReport) -> String {
    if status.proofs.verified == 0 {
        return "none yet".to_owned();
    }
    format!("{:.1} ms each", 1e3 * status.proofs.seconds / status.proofs.verified as f64)
}

fn credits(status: &StatusReport) -> String {
    let Some(credits) = &status.credits else {
        if status.gateway.issuer_elsewhere {
            return "<section class=\"card\"><h2>Credit</h2><p>The issuer is remote, and the books are there.</p></section>\n".to_owned();
        }
        let why = escape(status.books_trouble.as_deref().unwrap_or("unknown"));
        return format!(
            "<section class=\"card warnings\"><h2>Credit</h2><p>The books cannot be drawn up: {why}</p></section>\n"
        );
    };
    let CreditsStatus { minted, charged, refunded, held, outstanding } = credits;
    // In thousandths, for a picture.
    let share = |part: &u128| if *minted == 0 { 0 } else { part.saturating_mul(1_000) / minted };
    let (one, two, three) = (share(charged), share(held), share(outstanding));
    let rows =
        [("one", "charged", charged), ("two", "held by calls that run", held), ("three", "outstanding", outstanding)];
    let rows: String = rows
        .iter()
        .map(|(class, name, amount)| {
            format!("<tr><td><span class=\"key {class}\"></span>{name}</td><td>{}</td></tr>", grouped(**amount))
        })
        .collect();
    format!(
        "<section class=\"card\"><h2>Credit, micro-credits</h2>\
         <svg viewBox=\"0 0 1000 14\" height=\"14\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"parts of what was minted\">\
         <rect class=\"rest\" width=\"1000\" height=\"14\" rx=\"4\"/><rect class=\"one\" width=\"{one}\" height=\"14\"/>\
         <rect class=\"two\" x=\"{one}\" width=\"{two}\" height=\"14\"/>\
         <rect class=\"three\" x=\"{}\" width=\"{three}\" height=\"14\"/></svg>\
         <table><tr><th></th><th></th></tr>{rows}<tr><td>minted</td><td>{}</td></tr>\
         <tr><td class=\"soft\">refunded on the way</td><td class=\"soft\">{}</td></tr></table></section>\n",
        one + two,
        grouped(*minted),
        grouped(*refunded)
    )
}

fn picture(history: &[u64], every: u64) -> String {
    let most = history.iter().copied().max().unwrap_or(0).max(1);
    let first = 60_usize.saturating_sub(history.len());
    let mut bars = String::new();
    for (index, calls) in history.iter().enumerate() {
        let height = (calls.saturating_mul(80) / most).max(1);
        let _ = write!(
            bars,
            "<rect class=\"one\" x=\"{}\" y=\"{}\" width=\"8\" height=\"{height}\"/>",
            10 * (first + index),
            80 - height
        );
    }
    let span = every.saturating_mul(60);
    // The labels are no part of what is stretched: they would be stretched too.
    format!(
        "<section class=\"card\"><h2>Calls <span class=\"soft\">in each {every} s</span></h2>\
         <div class=\"chart\"><div class=\"axis\"><span>{}</span><span>{}</span><span>0</span></div>\
         <svg viewBox=\"0 0 600 80\" height=\"90\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"calls of each interval\">\
         <rect class=\"rest\" width=\"600\" height=\"1\"/><rect class=\"rest\" y=\"40\" width=\"600\" height=\"1\"/>\
         <rect class=\"rest\" y=\"79\" width=\"600\" height=\"1\"/>{bars}</svg></div>\
         <div class=\"times\"><span>{} ago</span><span>{} ago</span><span>now</span></div></section>\n",
        grouped(most.into()),
        if most > 1 { grouped((most / 2).into()) } else { String::new() },
        duration(span),
        duration(span / 2)
    )
}

fn counts(title: &str, by: &str, counts: &BTreeMap<&'static str, u64>) -> String {
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(_, count)| core::cmp::Reverse(**count));
    let rows: String = match rows.is_empty() {
        true => "<tr><td class=\"soft\">never</td><td>0</td></tr>".to_owned(),
        false => rows
            .iter()
            .map(|(name, count)| format!("<tr><td>{name}</td><td>{}</td></tr>", grouped((**count).into())))
            .collect(),
    };
    format!(
        "<section class=\"card\"><h2>{title} <span class=\"soft\">{by}</span></h2><table>{rows}</table></section>\n"
    )
}

fn more(status: &StatusReport) -> String {
    let upkeep = &status.upkeep;
    let issuer =
        status.gateway.issuer_elsewhere.then_some(("failures of the issuer elsewhere", status.issuer_failures));
    let rows: String = [
        ("notes spent twice", status.double_spends),
        ("lapsed spends settled by upkeep", upkeep.settled),
        ("records whose evidence was erased", upkeep.erased),
        ("steps of upkeep that failed", upkeep.failures),
        ("rounds of upkeep", upkeep.rounds),
    ]
    .into_iter()
    .chain(issuer)
    .map(|(name, count)| format!("<tr><td>{name}</td><td>{}</td></tr>", grouped(count.into())))
    .collect();
    format!("<section class=\"card\"><h2>Besides</h2><table>{rows}</table></section>\n")
}

fn epochs(epochs: &[EpochStatus], nothing: &str) -> String {
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "not in the directory".to_owned(), utc);
    let amount = |books: Option<u128>| books.map_or_else(|| nothing.to_owned(), grouped);
    let rows: String = epochs
        .iter()
        .map(|epoch| {
            let books = epoch.books.as_ref();
            let issues = if epoch.issues { " <span class=\"soft\">issues</span>" } else { "" };
            format!(
                "<tr><td>{}{issues}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                epoch.number,
                epoch.partition,
                amount(books.map(|books| books.open.into())),
                amount(books.map(|books| books.settled.into())),
                amount(books.map(|books| books.minted)),
                amount(books.map(|books| books.charged)),
                time(epoch.issues_until),
                time(epoch.spendable_until)
            )
        })
        .collect();
    format!(
        "<section class=\"card\"><h2>Epochs</h2><div class=\"scroll\"><table><tr><th>epoch</th><th>partition</th><th>open</th><th>settled</th>\
         <th>minted</th><th>charged</th><th>issues until</th><th>spendable until</th></tr>{rows}</table></div></section>\n"
    )
}

fn identity(status: &StatusReport) -> String {
    let gateway = &status.gateway;
    let prices: String = gateway
        .prices
        .iter()
        .map(|(item, (credits, per))| {
            let units = if *per == 1 { String::new() } else { format!(" for {}", grouped((*per).into())) };
            format!("<tr><td>{}</td><td>{}{units}</td></tr>", escape(item), grouped((*credits).into()))
        })
        .collect();
    let classes: Vec<String> = gateway.classes.iter().map(|class| grouped((*class).into())).collect();
    format!(
        "<div class=\"pair\"><section class=\"card\"><h2>Prices <span class=\"soft\">micro-credits a unit</span></h2><table>{prices}</table>\
         <p class=\"soft\">charge classes: {}</p></section>\n\
         <section class=\"card\"><h2>Who this is</h2><table><tr><td>gateway</td><td><code>{}</code></td></tr>\
         <tr><td>issuer</td><td><code>{}</code></td></tr><tr><td>root key</td><td><code>{}</code></td></tr><tr><td>directory</td><td>{}</td></tr><tr><td>version</td><td>{}</td></tr>\
         <tr><td>running for</td><td>{}</td></tr></table></section></div>\n",
        classes.join(", "),
        escape(&gateway.id),
        escape(&gateway.issuer),
        escape(&gateway.root_key),
        gateway.directory,
        escape(gateway.version),
        duration(gateway.running_seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_what_it_says_is_no_markup() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        for loader in ["<script", " src=", "url(", "@import", "<link rel=\"style", "http://", "https://", " style="] {
            assert!(!TEMPLATE.contains(loader), "{loader}");
        }
        assert_eq!(escape("<b a='1' & \"2\">"), "&lt;b a=&#39;1&#39; &amp; &quot;2&quot;&gt;");
        let page = render(None, Err("starting".to_owned()), &[], Duration::from_secs(60));
        assert!(page.contains("starting") && !page.contains("{taken}") && page.contains("content=\"2\""));
    }
}
