//! Cores that share what there is to do, as an operating system has them do it: each job has a core, or an equal part of all.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A time, milliseconds, in an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment(pub(super) f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Something at a time; in a heap the earliest is on top, and of two at one time the first that was put there.
struct Due<T> {
    at: Moment,
    number: u64,
    what: T,
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Due<T> {}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Due<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// What happens when.
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Due<T>>,
    number: u64,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), number: 0 }
    }

    pub(super) fn put(&mut self, at: f64, what: T) {
        self.number += 1;
        self.heap.push(Due { at: Moment(at), number: self.number, what });
    }

    pub(super) fn next(&self) -> Option<f64> {
        self.heap.peek().map(|due| due.at.0)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|due| due.what)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}

/// Cores and the jobs on them. As all jobs go on equally fast, each ends when the common progress has come as far as it needs.
pub(super) struct Processor<T> {
    cores: f64,
    jobs: Agenda<T>,
    progress: f64,
    now: f64,
    busy: f64,
}

impl<T> Processor<T> {
    pub(super) fn new(cores: u32) -> Self {
        Self { cores: f64::from(cores), jobs: Agenda::new(), progress: 0.0, now: 0.0, busy: 0.0 }
    }

    /// Begins a job that takes a core for so long.
    pub(super) fn begin(&mut self, work_ms: f64, job: T) {
        self.jobs.put(self.progress + work_ms, job);
    }

    /// When the next job ends if none begins before.
    pub(super) fn next(&self) -> Option<f64> {
        self.jobs.next().map(|end| self.now + (end - self.progress).max(0.0) / self.speed())
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, to: f64) {
        let passed = (to - self.now).max(0.0);
        self.busy += passed * (self.jobs.len() as f64).min(self.cores);
        self.progress += passed * self.speed();
        self.now = to;
    }

    /// The job that ends now.
    pub(super) fn finish(&mut self) -> Option<T> {
        if let Some(end) = self.jobs.next() {
            // Whatever rounding made of it.
            self.progress = self.progress.max(end);
        }
        self.jobs.pop()
    }

    /// The part of all cores that was used.
    pub(super) fn used(&self) -> f64 {
        if self.now > 0.0 { self.busy / (self.now * self.cores) } else { 0.0 }
    }

    fn speed(&self) -> f64 {
        (self.cores / (self.jobs.len() as f64).max(1.0)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(processor: &mut Processor<u8>) -> (f64, u8) {
        let at = processor.next().unwrap();
        processor.advance(at);
        (at, processor.finish().unwrap())
    }

    #[test]
    fn jobs_share_the_cores_that_there_are() {
        let mut processor = Processor::new(2);
        for (job, work) in [(1, 1.0), (2, 2.0), (3, 3.0)] {
            processor.begin(work, job);
        }
        // Three on two cores: two thirds of a core each.
        assert_eq!(end(&mut processor), (1.5, 1));
        // From then on a core each.
        assert_eq!(end(&mut processor), (2.5, 2));
        assert_eq!(end(&mut processor), (3.5, 3));
        assert!(processor.next().is_none());
        assert!((processor.used() - 6.0 / 7.0).abs() < 1e-9, "{}", processor.used());
    }

    #[test]
    fn what_comes_later_takes_its_part_from_then_on() {
        let mut processor = Processor::new(1);
        processor.begin(2.0, 1);
        processor.advance(1.0);
        processor.begin(0.5, 2);
        assert_eq!(end(&mut processor), (2.0, 2));
        assert_eq!(end(&mut processor), (2.5, 1));
    }

    #[test]
    fn what_is_due_at_one_time_comes_in_its_order() {
        let mut agenda = Agenda::new();
        [(2.0, 'c'), (1.0, 'a'), (1.0, 'b')].into_iter().for_each(|(at, what)| agenda.put(at, what));
        assert_eq!(std::iter::from_fn(|| agenda.pop()).collect::<String>(), "abc");
    }
}
