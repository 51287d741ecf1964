//! What the wallet has, and where it is.

use super::{bar, swatch, when};
use crate::http::html::grouped;
use crate::http::payer::{LaneView, View};
use crate::protocol::Timestamp;
use crate::wallet::LaneStatus;

/// How soon an epoch ends if it ends soon, seconds.
const SOON: u64 = 2 * 86_400;
/// How many lanes are shown. Of a wallet with many payments most are empty.
const MOST: usize = 32;

/// The credit of a wallet by what can be done with it.
#[derive(Default)]
pub(super) struct Sums {
    /// A proof is ready for it.
    pub(super) ready: u128,
    /// It can be spent.
    pub(super) able: u128,
    /// With calls under way.
    pub(super) held: u128,
    /// Whether a copy spent it is not known yet.
    pub(super) asked: u128,
    /// Of all of these: its epoch ends soon.
    pub(super) soon: u128,
    /// Its epoch is over.
    pub(super) gone: u128,
    pub(super) frozen: u128,
}

/// What a lane is, in a word that is the name of a colour.
fn kind(lane: &LaneView, now: Timestamp) -> &'static str {
    let over = lane.until.is_none_or(|until| until <= now);
    match lane.status {
        LaneStatus::Frozen { .. } => "lost",
        LaneStatus::InFlight { .. } => "held",
        _ if over => "gone",
        _ if ends_soon(lane, now) => "soon",
        LaneStatus::Unchecked { .. } => "asked",
        LaneStatus::Idle { .. } if lane.ready => "ready",
        LaneStatus::Idle { .. } => "able",
    }
}

fn ends_soon(lane: &LaneView, now: Timestamp) -> bool {
    lane.until.is_some_and(|until| until <= now.after(SOON))
}

/// What is in a lane in any case, and what may come back to it.
fn values(lane: &LaneView) -> (u64, u64) {
    match lane.status {
        LaneStatus::Idle { value, .. } | LaneStatus::Unchecked { value, .. } | LaneStatus::Frozen { value } => {
            (value.micro(), 0)
        }
        LaneStatus::InFlight { rest, charge, .. } => (rest.micro(), charge.micro()),
    }
}

impl Sums {
    pub(super) fn of(view: &View) -> Self {
        let mut sums = Self::default();
        for lane in &view.lanes {
            let (value, reserved) = values(lane);
            let value = u128::from(value) + u128::from(reserved);
            let into = match kind(lane, view.now) {
                "lost" => &mut sums.frozen,
                "gone" => &mut sums.gone,
                "held" => &mut sums.held,
                "soon" => &mut sums.soon,
                "asked" => &mut sums.asked,
                "ready" => &mut sums.ready,
                _ => &mut sums.able,
            };
            *into += value;
        }
        sums
    }
}

pub(super) fn balance(view: &View) -> String {
    let Sums { ready, able, held, asked, soon, gone, frozen } = Sums::of(view);
    let parts = [
        ("ready", "ready: a proof is made", ready),
        ("able", "can be spent", able),
        ("held", "held by calls under way; what they do not cost comes back", held),
        ("asked", "not known yet whether a copy of the wallet spent it", asked),
        ("soon", "void soon: its epoch ends within two days", soon),
        ("gone", "void: its epoch is over", gone),
        ("lost", "frozen: spent by a copy of the wallet", frozen),
    ];
    let row = |(class, name, sum): &(&str, &str, u128)| {
        format!("<tr><td class=\"text\">{}{name}</td><td>{}</td></tr>", swatch(class), grouped(*sum))
    };
    // What is never there in a healthy wallet is shown only if it is there.
    let shown = parts.iter().enumerate().filter(|(index, (.., sum))| [0, 1, 2, 4].contains(index) || *sum > 0);
    let rows: String = shown.map(|(_, part)| row(part)).collect();
    let whole = parts.iter().map(|(.., sum)| sum).sum();
    let drawn = bar(&parts.map(|(class, _, sum)| (class, sum)), whole, "parts of the credit");
    let disputed = match view.status.balance.disputed {
        0 => String::new(),
        sum => {
            format!(
                "<tr><td class=\"text soft\">of these disputed, and asked for still</td><td>{}</td></tr>",
                grouped(sum)
            )
        }
    };
    format!("<section class=\"card\"><h2>Credit</h2>{drawn}<br><table>{rows}{disputed}</table></section>\n")
}

pub(super) fn section(view: &View) -> String {
    let mut lanes: Vec<&LaneView> = view.lanes.iter().collect();
    let sum = |lane: &LaneView| {
        let (value, reserved) = values(lane);
        u128::from(value) + u128::from(reserved)
    };
    lanes.sort_by_key(|lane| (core::cmp::Reverse(sum(lane)), lane.lane));
    let most = lanes.first().map_or(0, |lane| sum(lane)).max(view.class.micro().into());
    let shown = lanes.iter().filter(|lane| sum(lane) > 0).take(MOST);
    let left = lanes.len() - shown.clone().count();
    let row = |lane: &&LaneView| {
        let (value, reserved) = values(lane);
        let drawn = bar(&[(kind(lane, view.now), value.into()), ("held", reserved.into())], most, "value of the lane");
        format!(
            "<div class=\"lane\"><span>{}</span>{drawn}<span class=\"amount\">{}</span><span class=\"soft\">{}</span></div>",
            lane.lane,
            grouped(sum(lane)),
            words(lane, view)
        )
    };
    let rows: String = shown.map(row).collect();
    let left = match left {
        0 => String::new(),
        left => format!("<p class=\"soft\">{left} more are empty or small.</p>"),
    };
    format!(
        "<section class=\"card\"><h2>Lanes <span class=\"soft\">each pays one call at a time</span></h2>{rows}{left}</section>\n"
    )
}

fn words(lane: &LaneView, view: &View) -> String {
    let small = |value: crate::protocol::Credits| value < view.class;
    match lane.status {
        LaneStatus::Frozen { .. } => "frozen".to_owned(),
        LaneStatus::InFlight { disputed: true, .. } => "settlement is withheld: disputed".to_owned(),
        LaneStatus::InFlight { charge, .. } => format!("pays a call; {} held", grouped(charge.micro().into())),
        _ if kind(lane, view.now) == "gone" => "void: its epoch is over".to_owned(),
        _ if ends_soon(lane, view.now) => {
            lane.until.map_or_else(String::new, |until| format!("void at {}", when(until)))
        }
        LaneStatus::Unchecked { .. } => "is asked about first".to_owned(),
        LaneStatus::Idle { .. } if lane.ready => "proof ready".to_owned(),
        LaneStatus::Idle { .. } if lane.proving => "proof being made".to_owned(),
        LaneStatus::Idle { value, .. } if small(value) => "too small for a call".to_owned(),
        LaneStatus::Idle { .. } => "can be spent".to_owned(),
    }
}
