//! How much of everything so many calls a second take.

use super::costs::Costs;
use super::queues::{Shape, most_spends};

/// The part of a machine that is planned for: what is above waits too long for its turn.
pub(super) const PLANNED: f64 = 0.6;
/// What a machine of the plan has beside cores.
const LINK_BYTES_PER_SECOND: f64 = 1.25e9;
const DISK_BYTES_PER_SECOND: f64 = 500e6;

/// Bytes on the wire: of a call with a spend of its own, and of one in a session, without what is asked and answered.
const PAID_BYTES: f64 = 7_000.0;
const SESSION_BYTES: f64 = 1_200.0;
/// What is written for a spend beside its bytes: two records of it, and the keys of both tables.
const RECORD_BYTES: f64 = 450.0;
/// How often a byte is written: the journal, then the table; merged once.
const WRITTEN_TIMES: f64 = 3.0;
/// How long nullifiers are kept (an epoch that issues for 30 days, and is spent from for 30 more), and evidence: days.
const EPOCH_DAYS: f64 = 60.0;
const EVIDENCE_DAYS: f64 = 1.0;
const DAY: f64 = 86_400.0;

/// What a cloud asks, dollars: a core for an hour, a GB of disk for a month, a GB to callers.
pub(super) const CORE_HOUR: f64 = 0.04;
pub(super) const GB_MONTH: f64 = 0.10;
pub(super) const GB_OUT: f64 = 0.05;

/// What is needed for a rate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) calls_per_second: f64,
    pub(super) calls_per_session: u32,
    pub(super) machine_cores: u32,
    /// Spends a second: what is proved, verified, inserted, signed.
    pub(super) spends_per_second: f64,
    /// Cores of gateways, issuer included.
    pub(super) cores: f64,
    pub(super) gateways: u64,
    /// Sets: gateway ids with a store or a database of their own.
    pub(super) sets: u64,
    pub(super) written_bytes_per_second: f64,
    pub(super) wire_bytes_per_second: f64,
    /// On disk when an epoch ends: nullifiers, and the evidence of a day.
    pub(super) epoch_bytes: f64,
    pub(super) evidence_bytes: f64,
    pub(super) first: Limit,
    pub(super) dollars_per_million: f64,
}

/// What is used up, and at how many calls a second one unit of it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    pub(super) name: &'static str,
    pub(super) calls_per_second: f64,
}

/// What one unit of each takes: a machine's cores, a gateway's threads that settle, one set, its disk, its link. The least comes first.
pub(super) fn limits(costs: &Costs, calls_per_session: u32, machine_cores: u32) -> Vec<Limit> {
    let spends = 1.0 / f64::from(calls_per_session);
    let core_ms = core_ms(costs, calls_per_session);
    let mut limits = vec![
        Limit { name: "cores of a machine", calls_per_second: f64::from(machine_cores) * PLANNED * 1e3 / core_ms },
        Limit { name: "a gateway's settling", calls_per_second: settled(costs, machine_cores) / spends },
        Limit { name: "one set", calls_per_second: costs.set_spends_per_second * PLANNED / spends },
        Limit { name: "a disk", calls_per_second: DISK_BYTES_PER_SECOND * PLANNED / (written_bytes(costs) * spends) },
        Limit { name: "a link", calls_per_second: LINK_BYTES_PER_SECOND * PLANNED / wire_bytes(calls_per_session) },
    ];
    limits.sort_by(|one, other| one.calls_per_second.total_cmp(&other.calls_per_second));
    limits
}

/// Spends a second that one gateway settles, as planned.
fn settled(costs: &Costs, machine_cores: u32) -> f64 {
    let shape = Shape { cores: machine_cores, service_ms: 0.0, commit_wait_ms: costs.fsync_ms };
    most_spends(costs, &shape) * PLANNED
}

/// Cores of a call, its part of a spend included.
pub(super) fn core_ms(costs: &Costs, calls_per_session: u32) -> f64 {
    costs.call_core_ms() + costs.spend_core_ms() / f64::from(calls_per_session)
}

fn written_bytes(costs: &Costs) -> f64 {
    (costs.spend_bytes + RECORD_BYTES) * WRITTEN_TIMES
}

fn wire_bytes(calls_per_session: u32) -> f64 {
    match calls_per_session {
        0 | 1 => PAID_BYTES,
        calls => SESSION_BYTES + 2.0 * PAID_BYTES / f64::from(calls),
    }
}

impl Plan {
    pub(super) fn of(costs: &Costs, calls_per_second: f64, calls_per_session: u32, machine_cores: u32) -> Self {
        let spends = calls_per_second / f64::from(calls_per_session);
        let core_ms = core_ms(costs, calls_per_session);
        let cores = calls_per_second * core_ms / 1e3 / PLANNED;
        let limits = limits(costs, calls_per_session, machine_cores);
        let first = limits.first().copied().unwrap_or(Limit { name: "nothing", calls_per_second: f64::INFINITY });
        let epoch_bytes = spends * DAY * EPOCH_DAYS * costs.nullifier_bytes;
        let evidence_bytes = spends * DAY * EVIDENCE_DAYS * costs.spend_bytes;
        let calls_a_month = calls_per_second * DAY * 30.0;
        let month = cores * 24.0 * 30.0 * CORE_HOUR
            + (epoch_bytes + evidence_bytes) / 1e9 * GB_MONTH
            + calls_a_month * wire_bytes(calls_per_session) / 2.0 / 1e9 * GB_OUT;
        Self {
            calls_per_second,
            calls_per_session,
            machine_cores,
            spends_per_second: spends,
            cores,
            gateways: whole(cores / f64::from(machine_cores)).max(whole(spends / settled(costs, machine_cores))),
            sets: whole(spends / (costs.set_spends_per_second * PLANNED)),
            written_bytes_per_second: spends * written_bytes(costs),
            wire_bytes_per_second: calls_per_second * wire_bytes(calls_per_session),
            epoch_bytes,
            evidence_bytes,
            first,
            dollars_per_million: month / calls_a_month * 1e6,
        }
    }

    /// Calls a second at each gateway.
    pub(super) fn per_gateway(&self) -> f64 {
        self.calls_per_second / self.gateways as f64
    }
}

fn whole(number: f64) -> u64 {
    // Numbers of machines: far below what f64 has exactly.
    number.ceil().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_the_calls_take_ten_times_of_everything() {
        let costs = Costs::example();
        let [small, large] = [1e4, 1e5].map(|rate| Plan::of(&costs, rate, 1, 16));
        for (one, ten) in [
            (small.cores, large.cores),
            (small.written_bytes_per_second, large.written_bytes_per_second),
            (small.epoch_bytes, large.epoch_bytes),
        ] {
            assert!((ten / one - 10.0).abs() < 1e-9);
        }
        assert!((small.dollars_per_million / large.dollars_per_million - 1.0).abs() < 1e-9);
        assert!(large.gateways > 5 * small.gateways && large.sets > 5 * small.sets);
    }

    #[test]
    fn sessions_take_the_set_out_of_the_way() {
        let costs = Costs::example();
        let (alone, sessions) = (Plan::of(&costs, 1e6, 1, 16), Plan::of(&costs, 1e6, 1_000, 16));
        assert!(alone.sets > 50 && sessions.sets == 1, "{} {}", alone.sets, sessions.sets);
        assert!(sessions.cores < alone.cores / 2.0 && sessions.epoch_bytes < alone.epoch_bytes / 900.0);
    }

    #[test]
    fn a_limit_is_where_its_plan_is_full() {
        let costs = Costs::example();
        for limit in limits(&costs, 1, 16) {
            let plan = Plan::of(&costs, limit.calls_per_second * 0.999, 1, 16);
            match limit.name {
                "cores of a machine" => assert!(plan.cores <= 16.0),
                "one set" => assert_eq!(plan.sets, 1),
                _ => {}
            }
        }
        assert!(limits(&costs, 1, 16).is_sorted_by(|one, other| one.calls_per_second <= other.calls_per_second));
    }
}
