//! Getting back what is in flight.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::online::{Issuer, Online, block_on, go_over, look_for, news, policy, smallest_class};
use super::say::{amount, say};
use super::trouble::Trouble;
use super::{Outcome, Place};
use halometer::http::cause::chain;
use halometer::http::clock::now;
use halometer::http::payer::{ClientError, Event};
use halometer::http::wire::{CANCEL_PATH, authorities};
use halometer::protocol::{ContentDigest, GatewayId, Problem, Request};
use halometer::wallet::file::FileJournal;
use halometer::wallet::{Accepted, LaneId, LaneStatus, Wallet};

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

    /// Ask the issuer, once, for what was sent to a gateway that is gone: it settles what no gateway works on. It learns that the party that
    /// asks from this address, now, has spent there; and of several lanes that they are one caller's. So name one lane, or say --all.
    #[arg(long, conflicts_with = "gateway")]
    pub at_issuer: bool,

    /// Where the issuer is, if not where the wallet has it from.
    #[arg(long, value_name = "URL", requires = "at_issuer")]
    pub issuer: Option<String>,
}

/// What came of one lane.
struct Row {
    lane: LaneId,
    settled: Option<Accepted>,
    disputed: bool,
    /// Why it is awaited still, where that is known.
    why: Option<String>,
}

pub(super) fn run(place: &Place, args: &CancelArgs) -> Outcome {
    if args.at_issuer && args.lane.is_none() && !args.all {
        return Err(Trouble::yours("several lanes that are asked for at once are seen to be one caller's")
            .next("name a lane, as `halometer wallet lanes` names it, or say --all"));
    }
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
    let (rows, events) = match args.at_issuer {
        true => (block_on(at_issuer(wallet, args.issuer.as_deref(), &wanted))??, Vec::new()),
        false => at_gateways(wallet, args, &wanted)?,
    };
    let value: Vec<_> = rows
        .iter()
        .map(|Row { lane, settled, disputed, why }| {
            json!({
                "lane": lane.to_string(),
                "state": state(settled.is_some(), *disputed),
                "charge": settled.map(|accepted| amount(accepted.charge)),
                "cost": settled.map(|accepted| amount(accepted.cost)),
                "refund": settled.map(|accepted| amount(accepted.refund)),
                "why": why,
            })
        })
        .collect();
    let lines = rows.iter().map(|Row { lane, settled, disputed, why }| match (settled, why) {
        (Some(accepted), _) => {
            let (cost, charge) = (accepted.cost.grouped(), accepted.charge.grouped());
            format!("lane {lane}: cost {cost} of {charge} micro-credits")
        }
        (None, Some(why)) => format!("lane {lane}: still awaited: {why}"),
        (None, None) if *disputed => format!("lane {lane}: withheld; the evidence is kept, see `disputes`"),
        (None, None) => {
            format!("lane {lane}: still awaited; it is asked for again by the next command that makes calls")
        }
    });
    say(place.json, &value.into(), lines)?;
    if !place.json {
        let rest = events.into_iter().filter(|event| !matches!(event, Event::Pursued(_)));
        news(&rest.collect::<Vec<_>>()).iter().for_each(|line| eprintln!("halometer: {line}"));
    }
    let done = rows.iter().all(|row| row.settled.is_some());
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Pursues all that is in flight, where it was sent.
fn at_gateways(
    mut wallet: Wallet<FileJournal>,
    args: &CancelArgs,
    wanted: &[LaneId],
) -> Result<(Vec<Row>, Vec<Event>), Trouble> {
    let gateway = args.gateway.or_else(|| asked(&wallet));
    let gateway = look_for(&mut wallet, gateway, None)?;
    let class = smallest_class(wallet.directory())?;
    let (events, left) = block_on(async {
        let online = Online::start(wallet, gateway, policy(class)).await?;
        let came = |events: &[Event]| wanted.iter().all(|lane| settled(events, *lane).is_some());
        online.wait(Duration::from_secs(args.wait), |_, events| came(events)).await?;
        let events = online.told.all();
        let left = online.end().await.map(|wallet| disputed(&wallet)).unwrap_or_default();
        Ok::<_, Trouble>((events, left))
    })??;
    let row =
        |lane: &LaneId| Row { lane: *lane, settled: settled(&events, *lane), disputed: left.contains(lane), why: None };
    Ok((wanted.iter().map(row).collect(), events))
}

/// Cancels at the issuer's, once. What a gateway still works on is left to it.
async fn at_issuer(mut wallet: Wallet<FileJournal>, url: Option<&str>, wanted: &[LaneId]) -> Result<Vec<Row>, Trouble> {
    let issuer = Issuer::of(url, &wallet)?;
    // The issuer settles under the epoch that issues, which may have come since.
    go_over(&mut wallet, &issuer.directory().await?)?;
    let mut rows = Vec::new();
    for lane in wanted {
        let (settled, why) = match cancel_at(&mut wallet, &issuer, *lane).await {
            Ok(accepted) => (Some(accepted), None),
            Err(why) => (None, Some(why)),
        };
        rows.push(Row { lane: *lane, settled, disputed: disputed(&wallet).contains(lane), why });
    }
    Ok(rows)
}

async fn cancel_at(wallet: &mut Wallet<FileJournal>, issuer: &Issuer, lane: LaneId) -> Result<Accepted, String> {
    let spend = wallet.lanes().find_map(|(found, status)| match status {
        LaneStatus::InFlight { spend, .. } if found == lane => Some(spend),
        _ => None,
    });
    let spend = spend.ok_or("it is not in flight any more")?;
    let (authority, _) = authorities(issuer.url()).ok_or_else(|| format!("`{}` has no host", issuer.url()))?;
    let request = Request::new(&authority, "POST", CANCEL_PATH, ContentDigest::of(b""));
    let request = request.map_err(|error| chain(&error))?;
    let bytes = wallet.cancel(&spend, &request).map_err(|error| chain(&error))?;
    match issuer.client().cancel(issuer.url(), bytes).await {
        Ok(settlement) => wallet.accept(&spend, &settlement, now()).map_err(|error| chain(&error)),
        Err(ClientError::Problem(details)) if details.kind() == Some(Problem::WrongOwner) => {
            Err("its gateway worked on it not long ago; ask again when its lease is over".to_owned())
        }
        Err(ClientError::Problem(details)) => Err(match details.detail.clone() {
            Some(detail) => format!("the issuer says: {detail}"),
            None => format!("the issuer refuses: {}", details.title),
        }),
        Err(error) => Err(chain(&error)),
    }
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

fn in_flight<J: halometer::wallet::Journal>(wallet: &Wallet<J>) -> Vec<LaneId> {
    wallet.lanes().filter(|(_, status)| matches!(status, LaneStatus::InFlight { .. })).map(|(lane, _)| lane).collect()
}

fn disputed<J: halometer::wallet::Journal>(wallet: &Wallet<J>) -> Vec<LaneId> {
    let disputed = |status: &LaneStatus| matches!(status, LaneStatus::InFlight { disputed: true, .. });
    wallet.lanes().filter(|(_, status)| disputed(status)).map(|(lane, _)| lane).collect()
}

/// The gateway of something that is in flight.
fn asked<J: halometer::wallet::Journal>(wallet: &Wallet<J>) -> Option<GatewayId> {
    wallet.lanes().find_map(|(_, status)| match status {
        LaneStatus::InFlight { spend, .. } => wallet.gateway_of(&spend),
        _ => None,
    })
}
