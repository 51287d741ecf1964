//! Local keys for programs: made, listed, taken back.

use std::path::PathBuf;
use std::process::ExitCode;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use toml::value::Datetime;

use super::say::{say, utc};
use super::trouble::Trouble;
use super::{Outcome, Place};
use crate::keyfile::{self, LARGEST, New};
use halometer::http::clock::now;
use halometer::http::pattern::RoutePattern;
use halometer::http::proxy::{KeyRule, LocalKey};
use halometer::protocol::Credits;

/// The arguments of `halometer wallet key`.
#[derive(Clone, Debug, clap::Args)]
pub struct KeyArgs {
    /// The file of keys, which the proxy is started with.
    #[arg(long, value_name = "FILE", default_value = "keys.toml", global = true)]
    pub keys: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub action: KeyAction,
}

/// What can be done with keys.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeyAction {
    /// Make a key and show it, once, on standard output. The file has its hash only.
    New(NewKeyArgs),
    /// List the keys and what they are for. What they have spent is in `history --by-key` and on the proxy's page.
    List,
    /// Take a key back. A running proxy takes no request with it from the next second on.
    Revoke {
        /// The key's name.
        name: String,
    },
}

/// The arguments of `halometer wallet key new`. Without a cap a key may spend all that the wallet has.
#[derive(Clone, Debug, clap::Args)]
pub struct NewKeyArgs {
    /// What the key is called: letters, digits, `.`, `_` and `-`. A name is used once.
    #[arg(long, value_name = "NAME")]
    pub name: String,

    /// The most that a call may be charged, micro-credits. It must be as large as the proxy's class.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LARGEST))]
    pub per_call: Option<u64>,

    /// The most that the calls of a day (UTC) may cost together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LARGEST))]
    pub per_day: Option<u64>,

    /// The most that all calls may ever cost together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=LARGEST))]
    pub total: Option<u64>,

    /// The models that may be asked, with commas between them; `gpt-4o*` is all that begin so. Without it all.
    #[arg(long, value_name = "MODELS", value_delimiter = ',', num_args = 1..)]
    pub models: Vec<String>,

    /// The requests that may be made, with commas between them, as in "POST /v1/chat/completions,GET /v1/models". Without it all.
    #[arg(long, value_name = "ROUTES", value_delimiter = ',', num_args = 1..)]
    pub routes: Vec<String>,

    /// When the key ends: a day, which is included, as in 2027-01-31, or a time, as in 2027-01-31T12:00:00Z. UTC.
    #[arg(long, value_name = "DATE")]
    pub until: Option<Datetime>,
}

pub(super) fn run(place: &Place, args: &KeyArgs) -> Outcome {
    match &args.action {
        KeyAction::New(new) => make(place, args, new),
        KeyAction::List => list(place, args),
        KeyAction::Revoke { name } => revoke(place, args, name),
    }
}

fn make(place: &Place, args: &KeyArgs, new: &NewKeyArgs) -> Outcome {
    let (models, routes) = (trimmed(&new.models), trimmed(&new.routes));
    if let Some(model) = models.iter().find(|model| !keyfile::is_model(model)) {
        return Err(
            Trouble::yours(format!("`{model}` is no model")).next("write a name, or the beginning of one and `*`")
        );
    }
    for route in &routes {
        let read = route.parse::<RoutePattern>().map_err(|error| error.to_string());
        let fine = read.and_then(|_| {
            if route.contains(['"', '\\']) || route.chars().any(char::is_control) {
                Err(format!("`{route}` has characters that no route has"))
            } else {
                Ok(())
            }
        });
        fine.map_err(|error| Trouble::yours(error).next("write routes as in \"POST /v1/chat/completions\""))?;
    }
    let end = new.until.as_ref().map(|until| {
        keyfile::instant(until).filter(|until| *until > now()).ok_or_else(|| {
            Trouble::yours(format!("`{until}` is no end in the future")).next("give a day, as in 2027-01-31")
        })
    });
    let end = end.transpose()?;
    let key = LocalKey::generate(&mut UnwrapErr(SysRng));
    keyfile::add(
        &args.keys,
        &New {
            name: &new.name,
            hash: key.hash(),
            per_call: new.per_call,
            per_day: new.per_day,
            total: new.total,
            models: &models,
            routes: &routes,
            until: new.until,
        },
    )?;
    let value = json!({
        "name": new.name,
        "key": key.as_str(),
        "keys": args.keys.display().to_string(),
        "until": end.map(|end| end.seconds()),
    });
    if !place.json {
        let file = args.keys.display();
        eprintln!("halometer: key `{}` is in {file}, hashed; this is the only time that it is shown", new.name);
        eprintln!(
            "halometer: start `halometer proxy --keys {file}`; a proxy that runs with it takes the key within a second"
        );
        if new.per_call.is_none() && new.per_day.is_none() && new.total.is_none() {
            eprintln!("halometer: it has no cap: with it all of the wallet's credit can be spent");
        }
    }
    say(place.json, &value, [key.as_str().to_owned()])?;
    Ok(ExitCode::SUCCESS)
}

fn trimmed(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn list(place: &Place, args: &KeyArgs) -> Outcome {
    let (keys, _) = keyfile::read(&args.keys)?;
    let values: Vec<Value> = keys.rules().iter().map(to_json).collect();
    let cap = |cap: Option<Credits>| cap.map_or_else(|| "-".to_owned(), |cap| cap.to_string());
    let head = format!("{:20} {:>12} {:>12} {:>14}  state", "key", "a call", "a day", "ever");
    let rows = keys.rules().iter().map(|rule| {
        let budget = &rule.budget;
        let mut line = format!(
            "{:20} {:>12} {:>12} {:>14}  {}",
            budget.name,
            cap(budget.per_call),
            cap(budget.per_day),
            cap(budget.total),
            state(rule)
        );
        if let Some(until) = budget.until {
            line += &format!(" until {} UTC", utc(until));
        }
        if !rule.models.is_empty() {
            line += &format!("; models {}", rule.models.join(", "));
        }
        if !rule.routes.is_empty() {
            line += &format!("; {} routes", rule.routes.len());
        }
        line
    });
    say(place.json, &values.into(), core::iter::once(head).chain(rows))?;
    Ok(ExitCode::SUCCESS)
}

fn state(rule: &KeyRule) -> &'static str {
    match rule.budget.until {
        _ if rule.revoked => "revoked",
        Some(until) if until <= now() => "ended",
        _ => "valid",
    }
}

fn to_json(rule: &KeyRule) -> Value {
    let budget = &rule.budget;
    let cap = |cap: Option<Credits>| cap.map(|cap| cap.to_string());
    json!({
        "name": budget.name,
        "state": state(rule),
        "per_call": cap(budget.per_call),
        "per_day": cap(budget.per_day),
        "total": cap(budget.total),
        "models": rule.models,
        "routes": rule.routes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "until": budget.until.map(|until| until.seconds()),
    })
}

fn revoke(place: &Place, args: &KeyArgs, name: &str) -> Outcome {
    keyfile::revoke(&args.keys, name)?;
    let value = json!({ "name": name, "state": "revoked" });
    say(place.json, &value, [format!("key `{name}` is taken back")])?;
    Ok(ExitCode::SUCCESS)
}
