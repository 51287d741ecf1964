//! Getting back what is in flight.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::online::{Online, block_on, choose, news, policy, smallest_class};
use super::say::{amount, say};
use super::trouble::Trouble;
use super::{Outcome, Place};
use crate::http::payer::Event;
use crate::protocol::GatewayId;
use crate::wallet::{Accepted, LaneId, LaneStatus, Wallet};

/// The arguments of `halometer wallet cancel`.
#[derive(Clone, Debug, clap::Args)]
pub struct CancelArgs {
    /// The lane whose spend is to come back, as `lanes` names it. The others are pursued as well, and not waited for.
    #[arg(value_name = "LANE", conflicts_with = "all")]
    pub lane: Option<String>,

    /// Wait for every lane; this is so, too, when no lane is named.
    #[arg(long)]
    pub all: bool,

    /// How long to wait, seconds. What has not come by then is asked for again by every command that makes calls.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub wait: u64,

    /// The gateway to ask whether notes are spent, where the issuer has several. Spends are asked for where they were sent.
    #[arg(long, value_name = "ID")]
    pub gateway: Option<GatewayId>,
}

pub(super) fn run(place: &Place, args: &CancelArgs) -> Outcome {
    let wallet = place.open()?;
    let mut wanted = in_flight(&wallet);
    if let Some(name) = &args.lane {
        wanted.retain(|lane| lane.to_string() == *name);
        if wanted.is_empty() {
            return Err(Trouble::yours(format!("nothing is in flight of lane {name}"))
                .next("`halometer wallet lanes` says which lanes await a settlement"));
        }
    }
    if wanted.is_empty() {
        say(place.json, &json!([]), ["nothing is in flight".to_owned()])?;
        return Ok(ExitCode::SUCCESS);
    }
    let gateway = args.gateway.or_else(|| asked(&wallet));
    let gateway = choose(wallet.directory(), gateway, None)?;
    let class = smallest_class(wallet.directory())?;
    let (events, left) = block_on(async {
        let online = Online::start(wallet, gateway, policy(class)).await?;
        let came = |events: &[Event]| wanted.iter().all(|lane| settled(events, *lane).is_some());
        online.wait(Duration::from_secs(args.wait), |_, events| came(events)).await?;
        let events = online.told.all();
        let left = online.end().await.map(|wallet| disputed(&wallet)).unwrap_or_default();
        Ok::<_, Trouble>((events, left))
    })??;

    let rows: Vec<_> = wanted.iter().map(|lane| (*lane, settled(&events, *lane), left.contains(lane))).collect();
    let value: Vec<_> = rows
        .iter()
        .map(|(lane, settled, disputed)| {
            json!({
                "lane": lane.to_string(),
                "state": state(settled.is_some(), *disputed),
                "charge": settled.map(|accepted| amount(accepted.charge)),
                "cost": settled.map(|accepted| amount(accepted.cost)),
                "refund": settled.map(|accepted| amount(accepted.refund)),
            })
        })
        .collect();
    let lines = rows.iter().map(|(lane, settled, disputed)| match settled {
        Some(accepted) => format!("lane {lane}: cost {} of {} micro-credits", accepted.cost, accepted.charge),
        None if *disputed => format!("lane {lane}: withheld; the evidence is kept, see `disputes`"),
        None => format!("lane {lane}: still awaited; it is asked for again by the next command that makes calls"),
    });
    say(place.json, &value.into(), lines)?;
    if !place.json {
        let rest = events.into_iter().filter(|event| !matches!(event, Event::Pursued(_)));
        news(&rest.collect::<Vec<_>>()).iter().for_each(|line| eprintln!("halometer: {line}"));
    }
    let done = rows.iter().all(|(_, settled, _)| settled.is_some());
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

const fn state(settled: bool, disputed: bool) -> &'static str {
    match (settled, disputed) {
        (true, _) => "settled",
        (false, true) => "disputed",
        (false, false) => "awaiting",
    }
}

fn settled(events: &[Event], lane: LaneId) -> Option<Accepted> {
    events.iter().find_map(|event| match event {
        Event::Pursued(accepted) if accepted.lane == lane => Some(*accepted),
        _ => None,
    })
}

fn in_flight<J: crate::wallet::Journal>(wallet: &Wallet<J>) -> Vec<LaneId> {
    wallet.lanes().filter(|(_, status)| matches!(status, LaneStatus::InFlight { .. })).map(|(lane, _)| lane).collect()
}

fn disputed<J: crate::wallet::Journal>(wallet: &Wallet<J>) -> Vec<LaneId> {
    let disputed = |status: &LaneStatus| matches!(status, LaneStatus::InFlight { disputed: true, .. });
    wallet.lanes().filter(|(_, status)| disputed(status)).map(|(lane, _)| lane).collect()
}

/// The gateway of something that is in flight.
fn asked<J: crate::wallet::Journal>(wallet: &Wallet<J>) -> Option<GatewayId> {
    wallet.lanes().find_map(|(_, status)| match status {
        LaneStatus::InFlight { spend, .. } => wallet.gateway_of(&spend),
        _ => None,
    })
}
