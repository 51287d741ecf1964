//! What is wrong, and what to do about it.

use super::super::local::KeysView;
use super::lanes::Sums;
use super::when;
use crate::http::html::{escape, grouped};
use crate::http::payer::{View, clocks_off};
use crate::wallet::LaneStatus;

/// Something that is not as it should be.
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) next: &'static str,
    /// Whether no call can be paid for while it lasts.
    pub(super) stops: bool,
}

pub(super) fn look(view: &View, keys: &KeysView) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut stop = |what: String, next| found.push(Finding { what, next, stops: true });
    let status = &view.status;
    if status.contradicted {
        stop(
            "the issuer shows different callers different directories".to_owned(),
            "no call is made any more; `halometer wallet disputes --save DIR` has the evidence for others to see",
        );
    }
    if let Some(why) = &view.away {
        stop(
            format!("the gateway cannot be reached: {why}"),
            "it is looked for every few seconds, and calls go on by themselves; if this stays, look to the network",
        );
    }
    if view.disagrees {
        stop(
            "the gateway's challenge names another directory than the one that it shows".to_owned(),
            "the two are compared again by themselves; if this stays, compare the directory with others of its callers",
        );
    }
    if view.unlisted {
        stop(
            "the directory does not let this gateway be paid with this class now".to_owned(),
            "newer directories are looked for by themselves; `halometer wallet doctor` lists gateways and classes",
        );
    }
    if let Some(until) = status.quarantined_until {
        stop(
            format!("the wallet was put back or moved: nothing of it is spent before {}", when(until)),
            "wait; spends that another copy has sent may still arrive",
        );
    }
    if let KeysView::Unreadable(why) = keys {
        stop(format!("the keys cannot be read: {why}"), "mend the file; it is read again by itself");
    }
    if view.prover_failed {
        stop(
            "proofs cannot be made".to_owned(),
            "it is tried again by itself; look to the machine's memory and processor",
        );
    }
    let (sums, class) = (Sums::of(view), view.class.micro());
    let able = view.lanes.iter().any(|lane| match lane.status {
        LaneStatus::Idle { value, .. } | LaneStatus::Unchecked { value, .. } => {
            value.micro() >= class && lane.until.is_some_and(|until| view.now < until)
        }
        LaneStatus::InFlight { charge, rest, .. } => charge.micro().saturating_add(rest.micro()) >= class,
        LaneStatus::Frozen { .. } => false,
    });
    if !able && u128::from(class) <= sums.ready + sums.able + sums.asked {
        stop(
            format!("no lane by itself can pay the class of {}, though together they could", grouped(class.into())),
            "the credit is gathered in quiet times, if the policy allows it; or use a smaller --class",
        );
    } else if !able {
        stop(
            format!("no lane can pay the class of {}", grouped(class.into())),
            "fund the wallet: `halometer wallet fund`; the proxy must not run meanwhile",
        );
    }
    let mut warn = |what: String, next| found.push(Finding { what, next, stops: false });
    for off in clocks_off() {
        warn(
            format!("{off}: spends may be refused as expired, and epochs look over that are not"),
            "put this machine's clock right; if it is right, tell the operator",
        );
    }
    if view.disputes > 0 {
        warn(
            format!("{} disputes with the gateway or the issuer are kept", view.disputes),
            "`halometer wallet disputes --save DIR` has the evidence; take it to the party that runs it",
        );
    }
    if status.frozen > 0 {
        warn(
            format!("{} lanes are frozen: a copy of this wallet spent their notes", status.frozen),
            "let no copy run any more; what the notes were worth is with the copy, or spent",
        );
    }
    if view.unasked && status.unchecked > 0 {
        warn(
            format!("it could not be asked whether a copy of the wallet spent {} lanes", status.unchecked),
            "they are not spent before; it is asked again by itself",
        );
    }
    if sums.soon > 0 {
        warn(
            format!("{} are void soon: their epoch ends within two days", grouped(sums.soon)),
            "leave the proxy running, which rolls them over once another epoch issues; or spend them",
        );
    }
    if sums.gone > 0 {
        warn(
            format!("{} are void: the epoch of their notes is over", grouped(sums.gone)),
            "ask the issuer whether it makes up for that",
        );
    }
    found
}

pub(super) fn section(found: &[Finding]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let item = |finding: &Finding| format!("<p><b>{}</b><br>{}</p>", escape(&finding.what), escape(finding.next));
    let items: String = found.iter().map(item).collect();
    format!("<section class=\"card warnings\"><h2>What is wrong, and what to do</h2>{items}</section>\n")
}
