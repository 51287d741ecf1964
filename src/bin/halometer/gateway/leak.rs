//! `halometer gateway leak-budget`: how many bits each public choice of a call tells about its caller.

mod budget;
mod traffic;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::{published::Published, store};
use super::config::{Config, IssuerKind, Loaded};
use budget::{Told, left, most, told};
use halometer::protocol::{Digest, Directory, Grid, Prefix};
use traffic::Traffic;

/// The arguments of `halometer gateway leak-budget`.
#[derive(Clone, Debug, clap::Args)]
pub struct LeakArgs {
    /// The configuration: its classes, schedule and grid. With a remote issuer name the directory instead.
    #[arg(long, value_name = "FILE", required_unless_present = "directory", conflicts_with = "directory")]
    pub config: Option<PathBuf>,

    /// The signed directory, in place of the configuration.
    #[arg(long, value_name = "FILE", requires = "root_key")]
    pub directory: Option<PathBuf>,

    /// The issuer's root key, 64 hexadecimal digits, for --directory.
    #[arg(long, value_name = "HEX", requires = "directory")]
    pub root_key: Option<Digest>,

    /// Count the calls in this store, or this backup of one. A gateway that uses it must be stopped.
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,

    /// The mark of the store, if it is not where it usually is.
    #[arg(long, value_name = "FILE", requires = "store")]
    pub mark: Option<PathBuf>,

    /// Take the calls from this file: TOML tables, one for each choice, of `value = calls`, and `callers = N`. For choices that the
    /// store does not know, such as routes or models, and in place of the store's counts.
    #[arg(long, value_name = "FILE")]
    pub traffic: Option<PathBuf>,

    /// How many callers hold credit. Without it the payments that were minted under the epochs of the store, which are at least as
    /// many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub callers: Option<u64>,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What the directory lets callers choose from.
struct Offered {
    classes: u64,
    epochs: u64,
    tariffs: u64,
    gateways: u64,
    /// The grids of windows and of publication.
    grid: Grid,
}

impl Offered {
    fn of_config(loaded: &Loaded) -> Result<Self, Box<dyn Error>> {
        let Config { directory, issuer, .. } = &loaded.config;
        if issuer.kind == IssuerKind::Remote {
            let what = "its directory says what callers choose from: name that with --directory and --root-key";
            return Err(loaded.error("issuer.kind", what).into());
        }
        let schedule = &issuer.schedule;
        let whole = u64::from(schedule.issue_seconds) + u64::from(schedule.beyond_seconds);
        let publish = directory.publish_seconds.unwrap_or(directory.grid_seconds);
        Ok(Self {
            classes: directory.classes.len() as u64,
            // So many are spendable at one time, at most.
            epochs: whole.div_ceil(u64::from(schedule.issue_seconds.max(1))).clamp(1, 3),
            tariffs: 2,
            gateways: 1 + issuer.clearing.len() as u64,
            grid: Grid::with_publication(directory.grid_seconds, publish)
                .or_else(|| Grid::new(directory.grid_seconds))
                .ok_or_else(|| loaded.error("directory.grid_seconds", "is too short"))?,
        })
    }

    fn of_directory(directory: &Directory) -> Self {
        let parts = directory.parts();
        let epochs = &parts.epochs;
        let together = |at: &halometer::protocol::Epoch| {
            epochs.iter().filter(|epoch| epoch.spend.contains(at.spend.from)).count() as u64
        };
        Self {
            classes: parts.classes.len() as u64,
            epochs: epochs.iter().map(together).max().unwrap_or(1),
            tariffs: (parts.tariffs.len() as u64).clamp(1, 2),
            gateways: parts.gateways.len() as u64,
            grid: parts.grid,
        }
    }

    /// The choices that it lets callers make, each with the most that it can tell on average, and why.
    fn most(&self) -> BTreeMap<&'static str, (f64, String)> {
        let share = |seconds: u64, of: u64| (seconds as f64 / of.max(1) as f64).min(1.0);
        let both = Grid::GRACE + Grid::EARLY;
        let accepted = share(both, self.grid.step().into());
        let published = share(Grid::GRACE, self.grid.lifetime());
        let of = |values: u64, what: &str| (most(values), format!("{what}: {values}"));
        BTreeMap::from([
            ("class", of(self.classes, "charge classes")),
            ("epoch", of(self.epochs, "epochs spendable at a time")),
            ("gateway", of(self.gateways, "gateways")),
            ("tariff", of(self.tariffs, "tariffs at a time")),
            ("window", (accepted, format!("two windows accepted for {both} s in {}", self.grid.step()))),
            ("directory", (published, format!("two directories for {} s in {}", Grid::GRACE, self.grid.lifetime()))),
        ])
    }
}

/// A line of the budget.
struct Line {
    name: String,
    /// What the calls tell; none if none were counted.
    told: Option<Told>,
    /// The most that it can tell on average; none if that is not known.
    most: Option<(f64, String)>,
}

impl Line {
    /// On average over calls, at most.
    fn average(&self) -> f64 {
        let most = self.most.as_ref().map(|(most, _)| *most);
        self.told.as_ref().map(|told| told.average).or(most).unwrap_or(0.0)
    }
}

/// Does it.
///
/// # Errors
/// What to tell the operator.
pub(super) fn run(args: &LeakArgs) -> Result<ExitCode, Box<dyn Error>> {
    let offered = match (&args.config, &args.directory, args.root_key) {
        (_, Some(directory), Some(root_key)) => {
            Offered::of_directory(&Published { directory: directory.clone(), root_key }.read()?)
        }
        (Some(file), ..) => Offered::of_config(&Loaded::read(file)?)?,
        // The parser asks for one of them.
        _ => return Err("name a configuration with --config, or a directory with --directory and --root-key".into()),
    };
    let mut traffic = match &args.store {
        Some(path) => Traffic::of_store(&store::open(path, args.mark.clone())?)?,
        None => Traffic::default(),
    };
    if let Some(file) = &args.traffic {
        traffic = traffic.with(Traffic::of_file(file)?);
    }
    let callers = args.callers.or(traffic.callers);
    let mut most = offered.most();
    let mut lines: Vec<Line> = traffic
        .choices
        .iter()
        .map(|(name, counts)| Line { name: name.clone(), told: Some(told(counts)), most: most.remove(name.as_str()) })
        .collect();
    lines.extend(most.into_iter().map(|(name, most)| Line { name: name.to_owned(), told: None, most: Some(most) }));
    // What tells most first.
    lines.sort_by(|one, other| other.average().total_cmp(&one.average()).then_with(|| one.name.cmp(&other.name)));
    let together = (!traffic.together.is_empty()).then(|| told(&traffic.together));
    let counted = |line: &&Line| line.told.as_ref().is_some_and(|_| together.is_some());
    // What was counted together is not counted again.
    let apart: f64 = lines.iter().filter(|line| !counted(line)).map(Line::average).sum();
    let total = apart + together.as_ref().map_or(0.0, |told| told.average);
    if args.json {
        println!("{}", to_json(&lines, together.as_ref(), total, callers, &traffic));
    } else {
        to_text(&lines, together.as_ref(), total, callers, &traffic).iter().for_each(|line| println!("{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(lines: &[Line], together: Option<&Told>, total: f64, callers: Option<u64>, traffic: &Traffic) -> Value {
    let of_told = |told: &Told| {
        json!({
            "average_bits": told.average,
            "worst_bits": told.worst,
            "rarest": told.rarest.as_ref().map(|(value, _)| value),
            "rarest_calls": told.rarest.as_ref().map(|(_, calls)| calls),
            "values": told.values,
            "calls": told.calls,
        })
    };
    let choices = lines.iter().map(|line| {
        json!({
            "choice": line.name,
            "counted": line.told.as_ref().map(of_told),
            "most_bits": line.most.as_ref().map(|(most, _)| most),
            "offered": line.most.as_ref().map(|(_, why)| why),
            "crowd_left": callers.map(|callers| left(callers, line.average())),
            "crowd_left_worst": line.told.as_ref().and_then(|told| Some(left(callers?, told.worst))),
        })
    });
    json!({
        "choices": choices.collect::<Vec<_>>(),
        "together": together.map(of_told),
        "total_average_bits": total,
        "callers": callers,
        "crowd_left": callers.map(|callers| left(callers, total)),
        "calls_per_window": windows(traffic).map(|(least, median)| json!({ "least": least, "median": median })),
        "bucket_crowd": Prefix::CROWD,
        "other_spends": traffic.others,
        "records_erased": traffic.erased,
    })
}

/// The fewest and the median calls of a window.
fn windows(traffic: &Traffic) -> Option<(u64, u64)> {
    let mut windows = traffic.windows.clone();
    windows.sort_unstable();
    Some((*windows.first()?, *windows.get(windows.len() / 2)?))
}

fn to_text(
    lines: &[Line],
    together: Option<&Told>,
    total: f64,
    callers: Option<u64>,
    traffic: &Traffic,
) -> Vec<String> {
    let crowd = |bits: f64| callers.map_or_else(|| "-".to_owned(), |callers| format!("{:.0}", left(callers, bits)));
    let mut text = vec![format!("{:<12} {:>8} {:>8} {:>8}  {}", "choice", "average", "worst", "crowd", "why")];
    for line in lines {
        let why = match (&line.told, &line.most) {
            (Some(told), _) => {
                let rarest = told.rarest.as_ref().map(|(value, calls)| format!("; rarest {value}, {calls} calls"));
                format!("{} values in {} calls{}", told.values, told.calls, rarest.unwrap_or_default())
            }
            (None, Some((_, why))) => format!("no calls counted; at most, by {why}"),
            (None, None) => String::new(),
        };
        let worst = line.told.as_ref().map_or_else(|| "-".to_owned(), |told| format!("{:.2}", told.worst));
        let average = line.average();
        text.push(format!("{:<12} {average:>8.2} {worst:>8} {:>8}  {why}", line.name, crowd(average)));
    }
    if let Some(told) = together {
        let why = format!("the counted choices at once; {} combinations", told.values);
        let (average, worst) = (told.average, told.worst);
        text.push(format!("{:<12} {average:>8.2} {worst:>8.2} {:>8}  {why}", "together", crowd(average)));
    }
    text.push(format!("{:<12} {total:>8.2} {:>8} {:>8}  all of it, at most, of one call", "total", "-", crowd(total)));
    match callers {
        Some(callers) => text.push(format!("crowd: at most {callers} callers, before a choice tells anything")),
        None => text.push("crowd: unknown; say --callers, or name the --store".to_owned()),
    }
    if let Some((least, median)) = windows(traffic) {
        text.push(format!("at one time: a window has {median} calls (median), {least} at least; no crowd is larger"));
    }
    text.push(format!("buckets: a wallet that asks hides among {} spends to come, or is told all", Prefix::CROWD));
    if traffic.others > 0 {
        text.push(format!("not counted: {} transfers and rollovers, which are no calls", traffic.others));
    }
    if traffic.erased > 0 {
        text.push(format!("not counted: {} records whose evidence is erased", traffic.erased));
    }
    text
}
