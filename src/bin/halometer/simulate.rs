//! `halometer simulate`: what an operator needs for so many calls a second, and how long calls then take.
//!
//! The capacity model is arithmetic over measured costs: [`capacity`]. The latency under load comes from a simulation of the queues of
//! one gateway, seeded, so that one seed gives one answer: [`queues`]. The costs are those of `halometer bench --json`, or an example:
//! [`costs`]. `docs/scale.md` explains the model; its tables are what this prints without arguments.

mod capacity;
mod costs;
mod processor;
mod queues;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use capacity::Plan;
use costs::Costs;
use queues::{Load, Shape};

/// Predict what so many calls a second need, and how long calls take under that load, from measured costs.
///
/// Without arguments it prints the tables of docs/scale.md. With --connections it predicts a run of `halometer bench --only http`,
/// which can be checked.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Calls a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with = "connections")]
    pub calls_per_second: Option<u64>,

    /// What `halometer bench --json` printed on your machine. What is missing in it is of the built-in example, and said so.
    #[arg(long, value_name = "FILE")]
    pub figures: Option<PathBuf>,

    /// Calls within one session; 1: each call is a spend of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calls_per_session: u32,

    /// Cores of a gateway machine.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub cores: u32,

    /// How long the service takes to answer, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 200.0, value_parser = milliseconds)]
    pub service_ms: f64,

    /// The way to a database and back, milliseconds, added to each commit; 0 for the embedded store.
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = milliseconds)]
    pub round_trip_ms: f64,

    /// How many calls are simulated.
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=2_000_000))]
    pub calls: u32,

    /// A fixed number of callers, each of which sends its next call when the last is answered, in place of a rate: as the bench does, with
    /// the load on the same cores and a service that answers at once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: Option<u32>,

    /// The seed: one seed, one answer.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("`{text}` is no number of milliseconds"))?;
    let fits = number.is_finite() && (0.0..=3_600_000.0).contains(&number);
    if fits { Ok(number) } else { Err(format!("{number} ms is not between 0 and 3600000")) }
}

/// Does it.
///
/// # Errors
/// What to tell the user, as text.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let costs = match &args.figures {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            Costs::of_bench(&text).map_err(|error| format!("{}: {error}", file.display()))?
        }
        None => Costs::example(),
    };
    if let Some(connections) = args.connections {
        let shape = Shape::of_bench(&costs);
        let load = Load::Closed { connections, calls: args.calls };
        let outcome = queues::simulate(&costs, &shape, load, args.seed);
        report::print_check(&costs, connections, &outcome, args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let Some(rate) = args.calls_per_second else {
        print!("{}", report::tables(&costs, args.seed));
        return Ok(ExitCode::SUCCESS);
    };
    let plan = Plan::of(&costs, rate as f64, args.calls_per_session, args.cores);
    let shape =
        Shape { cores: args.cores, service_ms: args.service_ms, commit_wait_ms: costs.fsync_ms + args.round_trip_ms };
    let load =
        Load::Open { per_second: plan.per_gateway(), calls: args.calls, calls_per_spend: args.calls_per_session };
    let outcome = queues::simulate(&costs, &shape, load, args.seed);
    report::print_plan(&costs, &plan, &outcome, args.json);
    Ok(ExitCode::SUCCESS)
}
