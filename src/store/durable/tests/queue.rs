//! The commit queue under a scheduler that tries the orders in which threads can run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::{check_pct, check_random, thread};

mod primitives {
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "../commit_queue.rs"]
#[allow(clippy::duplicate_mod, reason = "it is here a second time, on other primitives")]
mod commit_queue;

use commit_queue::CommitQueue;

const SCHEDULES: usize = 1_500;

fn check(scenario: fn()) {
    check_random(scenario, SCHEDULES);
    check_pct(scenario, SCHEDULES, 3);
}

#[test]
fn each_item_is_taken_once_and_in_order() {
    check(|| {
        let queue = Arc::new(CommitQueue::new());
        let producers: Vec<_> = (0..3)
            .map(|producer| {
                let queue = Arc::clone(&queue);
                thread::spawn(move || (0..3).for_each(|n| queue.push((producer, n)).unwrap()))
            })
            .collect();
        let theirs = Arc::clone(&queue);
        let taker = thread::spawn(move || {
            let mut taken = Vec::new();
            while let Some(items) = theirs.take(2) {
                assert!(!items.is_empty() && items.len() <= 2);
                taken.extend(items);
            }
            taken
        });
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        queue.close();
        let taken = taker.join().unwrap();
        for producer in 0..3 {
            let of: Vec<_> = taken.iter().filter(|item| item.0 == producer).map(|item| item.1).collect();
            assert_eq!(of, [0, 1, 2]);
        }
        assert_eq!(taken.len(), 9);
    });
}

#[test]
fn the_taker_wakes_when_the_queue_is_closed() {
    check(|| {
        let queue = Arc::new(CommitQueue::<u8>::new());
        let theirs = Arc::clone(&queue);
        let taker = thread::spawn(move || while theirs.take(8).is_some() {});
        let theirs = Arc::clone(&queue);
        let late = thread::spawn(move || theirs.push(1).is_ok());
        queue.close();
        taker.join().unwrap();
        late.join().unwrap();
        assert_eq!(queue.push(2), Err(2));
    });
}

#[test]
fn nothing_waits_on_when_the_queue_is_abandoned() {
    struct Waits(Arc<AtomicUsize>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    check(|| {
        let (queue, dropped) = (Arc::new(CommitQueue::new()), Arc::new(AtomicUsize::new(0)));
        let producers: Vec<_> = (0..3)
            .map(|_| {
                let (queue, dropped) = (Arc::clone(&queue), Arc::clone(&dropped));
                thread::spawn(move || drop(queue.push(Waits(dropped))))
            })
            .collect();
        let theirs = Arc::clone(&queue);
        let taker = thread::spawn(move || drop(theirs.take(1)));
        queue.abandon();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        taker.join().unwrap();
        assert!(queue.push(Waits(Arc::clone(&dropped))).is_err());
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
        assert!(queue.take(1).is_none());
    });
}
