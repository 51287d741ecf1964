//! What the simulation says, as tables, as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::capacity::{PLANNED, Plan, core_ms, limits};
use super::costs::Costs;
use super::queues::{Load, Outcome, Shape, most_spends, simulate};

const RATES: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const SESSIONS: [u32; 2] = [1, 100];
/// A machine of the tables.
const CORES: u32 = 16;
const LOADS: [f64; 5] = [0.1, 0.3, 0.6, 0.8, 0.95];
const CALLS: u32 = 20_000;

/// The tables of docs/scale.md.
pub(super) fn tables(costs: &Costs, seed: u64) -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = write_costs(&mut text, costs)
        .and_then(|()| write_limits(&mut text, costs))
        .and_then(|()| write_plans(&mut text, costs))
        .and_then(|()| write_latencies(&mut text, costs, seed));
    text
}

fn write_costs(text: &mut String, costs: &Costs) -> std::fmt::Result {
    writeln!(text, "Costs: {}.", costs.source)?;
    if !costs.assumed.is_empty() {
        writeln!(text, "Not in them, and of the example: {}.", costs.assumed.join(", "))?;
    }
    writeln!(text)?;
    writeln!(text, "| of a core, ms | |\n| --- | --- |")?;
    for (what, ms) in [
        ("screening of a spend", costs.screen_ms),
        ("verification, alone", costs.verify_ms(1)),
        ("verification, of 128 together, each", costs.verify_ms(super::queues::BATCH) / super::queues::BATCH as f64),
        ("two rows in the set", 2.0 * costs.row_ms),
        ("the issuer's signature", costs.sign_ms),
        ("HTTP, client and service included", costs.plain_ms),
        ("credential, meter, receipt", costs.metering_ms),
        ("a call with a spend of its own, all of it", core_ms(costs, 1)),
        ("a call of a session of 100, all of it", core_ms(costs, 100)),
    ] {
        writeln!(text, "| {what} | {ms:.3} |")?;
    }
    writeln!(text)
}

fn write_limits(text: &mut String, costs: &Costs) -> std::fmt::Result {
    writeln!(text, "| calls a session | full at {:.0} %, calls a second |\n| --- | --- |", PLANNED * 100.0)?;
    for calls in SESSIONS {
        let limits = limits(costs, calls, CORES);
        let list = limits.iter().map(|limit| format!("{}: {}", limit.name, count(limit.calls_per_second)));
        writeln!(text, "| {calls} | {} |", list.collect::<Vec<_>>().join("; "))?;
    }
    writeln!(text)
}

fn write_plans(text: &mut String, costs: &Costs) -> std::fmt::Result {
    writeln!(
        text,
        "| calls/s | a session | spends/s | cores | gateways | sets | written | wire | epoch | $/million |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for calls in SESSIONS {
        for rate in RATES {
            let plan = Plan::of(costs, rate as f64, calls, CORES);
            writeln!(
                text,
                "| {} | {calls} | {} | {:.0} | {} | {} | {:.1} MB/s | {:.2} Gbit/s | {} | {:.2} |",
                count(plan.calls_per_second),
                count(plan.spends_per_second),
                plan.cores.ceil(),
                plan.gateways,
                plan.sets,
                plan.written_bytes_per_second / 1e6,
                plan.wire_bytes_per_second * 8.0 / 1e9,
                bytes(plan.epoch_bytes),
                plan.dollars_per_million,
            )?;
        }
    }
    writeln!(text)
}

fn write_latencies(text: &mut String, costs: &Costs, seed: u64) -> std::fmt::Result {
    writeln!(text, "| load | calls/s | p50, ms | p90 | p99 | spends a batch | rows a commit |")?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- |")?;
    let shape = Shape { cores: CORES, service_ms: 200.0, commit_wait_ms: costs.fsync_ms };
    let full = most_spends(costs, &shape);
    for part in LOADS {
        let load = Load::Open { per_second: part * full, calls: CALLS, calls_per_spend: 1 };
        let outcome = simulate(costs, &shape, load, seed);
        writeln!(
            text,
            "| {:.0} % | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
            part * 100.0,
            count(part * full),
            outcome.p50,
            outcome.p90,
            outcome.p99,
            outcome.spends_a_batch,
            outcome.rows_a_commit,
        )?;
    }
    Ok(())
}

/// Two figures, as a plan deserves.
fn count(number: f64) -> String {
    match number {
        n if n >= 9.95e6 => format!("{:.0}M", n / 1e6),
        n if n >= 9.95e5 => format!("{:.1}M", n / 1e6),
        n if n >= 9.95e3 => format!("{:.0}k", n / 1e3),
        n if n >= 9.95e2 => format!("{:.1}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

fn bytes(number: f64) -> String {
    match number {
        n if n >= 1e15 => format!("{:.1} PB", n / 1e15),
        n if n >= 1e12 => format!("{:.1} TB", n / 1e12),
        n => format!("{:.0} GB", n / 1e9),
    }
}

fn outcome_json(outcome: &Outcome) -> Value {
    json!({
        "per_second": outcome.per_second,
        "added_ms_p50": outcome.p50,
        "added_ms_p90": outcome.p90,
        "added_ms_p99": outcome.p99,
        "spends_a_batch": outcome.spends_a_batch,
        "rows_a_commit": outcome.rows_a_commit,
        "cores_used": outcome.used,
        "keeps_up": outcome.keeps_up,
    })
}

/// What a rate needs, and how long calls take at one of its gateways.
pub(super) fn print_plan(costs: &Costs, plan: &Plan, outcome: &Outcome, json: bool) {
    if json {
        let value = json!({
            "costs": costs.source,
            "assumed": costs.assumed,
            "calls_per_second": plan.calls_per_second,
            "calls_per_session": plan.calls_per_session,
            "spends_per_second": plan.spends_per_second,
            "gateway_cores": plan.cores,
            "gateways": plan.gateways,
            "cores_each": plan.machine_cores,
            "sets": plan.sets,
            "written_bytes_per_second": plan.written_bytes_per_second,
            "wire_bytes_per_second": plan.wire_bytes_per_second,
            "epoch_bytes": plan.epoch_bytes,
            "evidence_bytes": plan.evidence_bytes,
            "first_full": plan.first.name,
            "first_full_at": plan.first.calls_per_second,
            "dollars_per_million_calls": plan.dollars_per_million,
            "a_gateway": outcome_json(outcome),
        });
        println!("{value}");
        return;
    }
    println!("costs             {}", costs.source);
    if !costs.assumed.is_empty() {
        println!("of the example    {}", costs.assumed.join(", "));
    }
    println!("calls a second    {}, {} a session", count(plan.calls_per_second), plan.calls_per_session);
    println!("spends a second   {}", count(plan.spends_per_second));
    println!("gateways          {} of {} cores ({:.1} cores)", plan.gateways, plan.machine_cores, plan.cores);
    println!("sets              {}", plan.sets);
    println!("written           {:.1} MB a second", plan.written_bytes_per_second / 1e6);
    println!("on the wire       {:.2} Gbit a second", plan.wire_bytes_per_second * 8.0 / 1e9);
    println!("at an epoch's end {}, and {} of evidence", bytes(plan.epoch_bytes), bytes(plan.evidence_bytes));
    println!("first full        {}, at {} calls a second", plan.first.name, count(plan.first.calls_per_second));
    println!("cost              ${:.2} a million calls", plan.dollars_per_million);
    println!("a gateway, at {} calls a second", count(plan.per_gateway()));
    print_outcome(outcome);
}

fn print_outcome(outcome: &Outcome) {
    println!("  added, ms       p50 {:.2}, p90 {:.2}, p99 {:.2}", outcome.p50, outcome.p90, outcome.p99);
    println!(
        "  together        {:.1} spends a batch, {:.1} rows a commit",
        outcome.spends_a_batch, outcome.rows_a_commit
    );
    println!("  cores used      {:.0} %", outcome.used * 100.0);
    if !outcome.keeps_up {
        println!("  it does not keep up: plan for more gateways, or for longer sessions");
    }
}

/// What a run of the bench should give, and what it gave.
pub(super) fn print_check(costs: &Costs, connections: u32, outcome: &Outcome, json: bool) {
    let off = costs.measured_paid_per_second.map(|measured| outcome.per_second / measured - 1.0);
    if json {
        let value = json!({
            "costs": costs.source,
            "assumed": costs.assumed,
            "connections": connections,
            "http_paid_per_second_predicted": outcome.per_second,
            "http_paid_per_second_measured": costs.measured_paid_per_second,
            "off": off,
            "predicted": outcome_json(outcome),
        });
        println!("{value}");
        return;
    }
    println!("costs             {}", costs.source);
    if !costs.assumed.is_empty() {
        println!("of the example    {}", costs.assumed.join(", "));
    }
    println!("predicted         {:.0} paid calls a second over {connections} connections", outcome.per_second);
    if let (Some(measured), Some(off)) = (costs.measured_paid_per_second, off) {
        println!("measured          {measured:.0}; the prediction is off by {:+.0} %", off * 100.0);
    }
    print_outcome(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_documentation_are_these() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/scale.md")).unwrap();
        let made = tables(&Costs::example(), 1);
        for line in made.lines().filter(|line| line.starts_with('|')) {
            assert!(page.contains(line), "docs/scale.md lacks a line of `halometer simulate`:\n{made}");
        }
    }

    #[test]
    fn numbers_are_told_in_two_figures() {
        for (number, told) in [(999.4, "1.0k"), (12.2, "12"), (123_456.0, "123k"), (1e6, "1.0M"), (2.5e7, "25M")] {
            assert_eq!(count(number), told);
        }
        assert_eq!([bytes(5e9), bytes(2.25e12), bytes(1e15)], ["5 GB", "2.2 TB", "1.0 PB"]);
    }
}
