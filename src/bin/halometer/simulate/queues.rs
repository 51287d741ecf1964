//! The queues of one gateway: what a call waits for, and for how long.
//!
//! ```text
//! arrival -> read -> screen -> verify, in batches -> commit -> service -> sign -> commit -> answer
//!            workers  1 thread  a thread more than    1 thread           8 threads
//!                               there are cores
//! ```
//!
//! As in the program: what has arrived while the last batch was verified is the next batch, a thread that verifies waits for the commit of
//! its batch, and a commit takes all rows that wait, with one wait for the disk. All threads share the cores.

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::costs::Costs;
use super::processor::{Agenda, Processor};

/// Spends that are verified together at most, and threads that settle: as the program has them.
pub(super) const BATCH: usize = 128;
const SETTLERS: usize = 8;
/// The part of the first calls that do not count: queues are empty at the start.
const WARM_UP: f64 = 0.1;

/// A gateway.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) cores: u32,
    pub(super) service_ms: f64,
    /// What a commit waits for: the disk, or a database and the way there.
    pub(super) commit_wait_ms: f64,
}

impl Shape {
    /// As the bench has it: all on its cores, and a service that answers at once.
    pub(super) fn of_bench(costs: &Costs) -> Self {
        Self { cores: costs.cores.clamp(1.0, 1_024.0) as u32, service_ms: 0.0, commit_wait_ms: costs.fsync_ms }
    }
}

/// What comes to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// So many a second, each by chance.
    Open { per_second: f64, calls: u32, calls_per_spend: u32 },
    /// So many callers that wait for their answers.
    Closed { connections: u32, calls: u32 },
}

/// What came of it. Times are milliseconds, without the service's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) per_second: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) spends_a_batch: f64,
    pub(super) rows_a_commit: f64,
    pub(super) used: f64,
    /// Whether it was no more than the gateway keeps up with.
    pub(super) keeps_up: bool,
}

type Call = usize;

/// What takes a core.
enum Work {
    Read(Call),
    Screen(Call),
    Verify(Vec<Call>),
    Rows,
    Sign(Call),
    Answer(Call),
}

/// What takes time alone.
enum Event {
    Arrives,
    Served(Call),
    Committed,
}

enum Row {
    /// Of a thread that verifies, which waits.
    Inserted(Vec<Call>),
    /// Of a thread that settles.
    Settled(Call),
}

struct Simulation<'a> {
    costs: &'a Costs,
    shape: &'a Shape,
    load: Load,
    rng: ChaCha20Rng,
    now: f64,
    events: Agenda<Event>,
    processor: Processor<Work>,
    /// By call.
    arrived: Vec<f64>,
    is_spend: Vec<bool>,
    took: Vec<f64>,
    answered: usize,
    worker: Pool<Work>,
    screener: Pool<Call>,
    verifying: usize,
    to_verify: VecDeque<Call>,
    settler: Pool<Call>,
    to_commit: Vec<Row>,
    committing: Vec<Row>,
    commits: usize,
    rows: usize,
    batches: usize,
    verified: usize,
    backlog: usize,
}

/// Threads with a queue before them.
struct Pool<T> {
    free: usize,
    queue: VecDeque<T>,
}

impl<T> Pool<T> {
    fn new(threads: usize) -> Self {
        Self { free: threads, queue: VecDeque::new() }
    }

    /// What a free thread takes up.
    fn take(&mut self) -> Option<T> {
        if self.free == 0 {
            return None;
        }
        let taken = self.queue.pop_front()?;
        self.free -= 1;
        Some(taken)
    }
}

/// How many spends a second one gateway carries at most, however many wait: by its cores, or by its threads that settle, each of which
/// waits for its commit.
pub(super) fn most_spends(costs: &Costs, shape: &Shape) -> f64 {
    let shape = Shape { service_ms: 0.0, ..shape.clone() };
    simulate(costs, &shape, Load::Closed { connections: 1_024, calls: 8_000 }, 1).per_second
}

/// Simulates until all calls are answered.
pub(super) fn simulate(costs: &Costs, shape: &Shape, load: Load, seed: u64) -> Outcome {
    let calls = match load {
        Load::Open { calls, .. } | Load::Closed { calls, .. } => calls as usize,
    };
    let cores = shape.cores as usize;
    let mut simulation = Simulation {
        costs,
        shape,
        load,
        rng: ChaCha20Rng::seed_from_u64(seed),
        now: 0.0,
        events: Agenda::new(),
        processor: Processor::new(shape.cores),
        arrived: Vec::with_capacity(calls),
        is_spend: Vec::with_capacity(calls),
        took: vec![0.0; calls],
        answered: 0,
        worker: Pool::new(cores),
        screener: Pool::new(1),
        verifying: 0,
        to_verify: VecDeque::new(),
        settler: Pool::new(SETTLERS),
        to_commit: Vec::new(),
        committing: Vec::new(),
        commits: 0,
        rows: 0,
        batches: 0,
        verified: 0,
        backlog: 0,
    };
    simulation.run(calls);
    simulation.outcome(calls)
}

impl Simulation<'_> {
    fn run(&mut self, calls: usize) {
        let first = match self.load {
            Load::Open { .. } => 1,
            Load::Closed { connections, .. } => (connections as usize).min(calls),
        };
        for _ in 0..first {
            self.events.put(0.0, Event::Arrives);
        }
        while self.answered < calls {
            let (event, job) = (self.events.next(), self.processor.next());
            match (event, job) {
                (Some(at), job) if job.is_none_or(|end| at <= end) => {
                    self.pass(at);
                    if let Some(event) = self.events.pop() {
                        self.happens(event, calls);
                    }
                }
                (_, Some(end)) => {
                    self.pass(end);
                    if let Some(work) = self.processor.finish() {
                        self.done(work, calls);
                    }
                }
                // Nothing is left to do: every call is answered.
                (_, None) => return,
            }
            self.begin();
        }
    }

    fn pass(&mut self, to: f64) {
        self.now = self.now.max(to);
        self.processor.advance(self.now);
    }

    fn happens(&mut self, event: Event, calls: usize) {
        match event {
            Event::Arrives => {
                let call = self.arrived.len();
                self.arrived.push(self.now);
                let among = match self.load {
                    Load::Open { calls_per_spend, .. } => u64::from(calls_per_spend.max(1)),
                    Load::Closed { .. } => 1,
                };
                let is_spend = among == 1 || self.rng.next_u64().is_multiple_of(among);
                self.is_spend.push(is_spend);
                self.worker.queue.push_back(Work::Read(call));
                if let Load::Open { per_second, .. } = self.load {
                    if self.arrived.len() < calls {
                        let pause = self.exponential() * 1e3 / per_second;
                        self.events.put(self.now + pause, Event::Arrives);
                    } else {
                        self.backlog = calls - self.answered;
                    }
                }
            }
            Event::Served(call) if self.is_spend[call] => self.settler.queue.push_back(call),
            Event::Served(call) => self.worker.queue.push_back(Work::Answer(call)),
            Event::Committed => {
                for row in std::mem::take(&mut self.committing) {
                    match row {
                        Row::Inserted(batch) => {
                            self.verifying -= 1;
                            batch.into_iter().for_each(|call| self.serve(call));
                        }
                        Row::Settled(call) => {
                            self.settler.free += 1;
                            self.worker.queue.push_back(Work::Answer(call));
                        }
                    }
                }
            }
        }
    }

    fn done(&mut self, work: Work, calls: usize) {
        match work {
            Work::Read(call) => {
                self.worker.free += 1;
                match self.is_spend[call] {
                    true => self.screener.queue.push_back(call),
                    false => self.serve(call),
                }
            }
            Work::Screen(call) => {
                self.screener.free += 1;
                self.to_verify.push_back(call);
            }
            Work::Verify(batch) => self.to_commit.push(Row::Inserted(batch)),
            Work::Rows => {
                // The disk takes its usual time, and now and then much longer.
                let wait = self.shape.commit_wait_ms * (0.75 + 0.25 * self.exponential());
                self.events.put(self.now + wait, Event::Committed);
            }
            Work::Sign(call) => self.to_commit.push(Row::Settled(call)),
            Work::Answer(call) => {
                self.worker.free += 1;
                self.took[call] = self.now - self.arrived[call] - self.shape.service_ms;
                self.answered += 1;
                if matches!(self.load, Load::Closed { .. }) && self.arrived.len() < calls {
                    // Those that are on their way are counted when they arrive.
                    self.happens(Event::Arrives, calls);
                }
            }
        }
    }

    /// Has free threads take up what waits for them.
    fn begin(&mut self) {
        let costs = self.costs;
        while let Some(work) = self.worker.take() {
            self.processor.begin(costs.call_core_ms() / 2.0, work);
        }
        while let Some(call) = self.screener.take() {
            self.processor.begin(costs.screen_ms, Work::Screen(call));
        }
        while self.verifying <= self.shape.cores as usize && !self.to_verify.is_empty() {
            let batch: Vec<_> = self.to_verify.drain(..self.to_verify.len().min(BATCH)).collect();
            self.verifying += 1;
            self.batches += 1;
            self.verified += batch.len();
            self.processor.begin(costs.verify_ms(batch.len()), Work::Verify(batch));
        }
        while let Some(call) = self.settler.take() {
            self.processor.begin(costs.sign_ms, Work::Sign(call));
        }
        if self.committing.is_empty() && !self.to_commit.is_empty() {
            self.committing = std::mem::take(&mut self.to_commit);
            let rows = self.committing.iter().map(|row| match row {
                Row::Inserted(batch) => batch.len(),
                Row::Settled(_) => 1,
            });
            let rows: usize = rows.sum();
            self.commits += 1;
            self.rows += rows;
            self.processor.begin(costs.row_ms * rows as f64, Work::Rows);
        }
    }

    fn serve(&mut self, call: Call) {
        self.events.put(self.now + self.shape.service_ms, Event::Served(call));
    }

    /// A number by chance, 1 on average.
    fn exponential(&mut self) -> f64 {
        let unit = (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        -(1.0 - unit).ln()
    }

    fn outcome(&self, calls: usize) -> Outcome {
        let skipped = (calls as f64 * WARM_UP) as usize;
        let mut took = self.took[skipped.min(calls.saturating_sub(1))..].to_vec();
        took.sort_by(f64::total_cmp);
        let at = |part: f64| took.get(((took.len().max(1) - 1) as f64 * part).round() as usize).copied().unwrap_or(0.0);
        let mean = |sum: usize, count: usize| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        let used = self.processor.used();
        Outcome {
            per_second: if self.now > 0.0 { calls as f64 / self.now * 1e3 } else { 0.0 },
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            spends_a_batch: mean(self.verified, self.batches),
            rows_a_commit: mean(self.rows, self.commits),
            used,
            keeps_up: self.keeps_up(calls),
        }
    }

    /// When the last call came, no more were under way than come in the time that calls take, and some.
    fn keeps_up(&self, calls: usize) -> bool {
        let Load::Open { per_second, .. } = self.load else { return true };
        let under_way = per_second * (self.shape.service_ms + 50.0) / 1e3;
        (self.backlog as f64) < under_way.mul_add(1.5, 50.0).max(calls as f64 * 0.02)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { cores: 4, service_ms: 100.0, commit_wait_ms: 0.3 }
    }

    fn open(per_second: f64) -> Load {
        Load::Open { per_second, calls: 5_000, calls_per_spend: 1 }
    }

    #[test]
    fn one_seed_gives_one_answer_and_another_seed_another() {
        let (costs, shape) = (Costs::example(), shape());
        let with = |seed| simulate(&costs, &shape, open(1_000.0), seed);
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
        assert!((with(1).p50 / with(2).p50 - 1.0).abs() < 0.1, "and nearly the same");
    }

    #[test]
    fn a_lone_call_takes_what_its_steps_take() {
        let costs = Costs::example();
        let outcome = simulate(&costs, &shape(), Load::Closed { connections: 1, calls: 200 }, 1);
        let steps = costs.call_core_ms()
            + costs.screen_ms
            + costs.verify_ms(1)
            + costs.sign_ms
            + 2.0 * (costs.row_ms + shape().commit_wait_ms);
        assert!((outcome.p50 / steps - 1.0).abs() < 0.05, "{} and not {steps}", outcome.p50);
        assert_eq!((outcome.spends_a_batch, outcome.rows_a_commit), (1.0, 1.0));
    }

    #[test]
    fn calls_wait_longer_the_more_come_until_it_is_too_much() {
        let (costs, shape) = (Costs::example(), shape());
        let full = most_spends(&costs, &shape);
        let outcomes = [0.1, 0.5, 0.8].map(|part| simulate(&costs, &shape, open(part * full), 1));
        assert!(outcomes.is_sorted_by(|less, more| less.p99 < more.p99), "{outcomes:?}");
        assert!(outcomes.is_sorted_by(|less, more| less.spends_a_batch < more.spends_a_batch));
        assert!(outcomes.iter().all(|outcome| outcome.keeps_up && outcome.used < 1.0), "{outcomes:?}");
        let flooded = Load::Open { per_second: 3.0 * full, calls: 30_000, calls_per_spend: 1 };
        let flooded = simulate(&costs, &shape, flooded, 1);
        assert!(!flooded.keeps_up && flooded.per_second < 1.2 * full, "{flooded:?}");
    }

    #[test]
    fn callers_that_wait_fill_the_cores_and_no_more() {
        let costs = Costs::example();
        let crowd = simulate(&costs, &Shape::of_bench(&costs), Load::Closed { connections: 256, calls: 3_000 }, 1);
        let most = costs.cores * 1e3 / (costs.call_core_ms() + costs.spend_core_ms());
        assert!(crowd.per_second < most * 1.15 && crowd.per_second > most * 0.5, "{} of {most}", crowd.per_second);
        assert!(crowd.used > 0.6, "{}", crowd.used);
        // What callers wait is what they are, by Little's law.
        let mean = 256.0 / crowd.per_second * 1e3;
        assert!((0.5..1.5).contains(&(crowd.p50 / mean)), "{} {mean}", crowd.p50);
    }

    #[test]
    fn calls_in_sessions_wait_for_no_proof() {
        let (costs, shape) = (Costs::example(), shape());
        let load = Load::Open { per_second: 5_000.0, calls: 20_000, calls_per_spend: 100 };
        let outcome = simulate(&costs, &shape, load, 1);
        assert!(outcome.p50 < 1.0 && outcome.p99 > outcome.p50, "{outcome:?}");
    }
}
