//! Threads that do not share their work.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// One-thread rayon pools, to make or verify many proofs at a time, each on one thread.
#[derive(Debug)]
pub struct Workers(Vec<ThreadPool>);

impl Workers {
    /// Starts `n` threads, at least one.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn new(n: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        (0..n.max(1))
            .map(|i| ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("halometer-{i}")).build())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The number of threads.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Runs `work` on the parts of `items`, one part a thread, and returns what it returned, in order. Blocks until all are
    /// done; a panic in `work` is passed on.
    pub fn run<T: Send, U: Send>(&self, items: Vec<T>, work: impl Fn(Vec<T>) -> U + Sync) -> Vec<U> {
        let size = items.len().div_ceil(self.0.len()).max(1);
        let mut items = items.into_iter();
        let parts: Vec<Vec<T>> =
            std::iter::from_fn(|| Some(items.by_ref().take(size).collect()).filter(|part: &Vec<T>| !part.is_empty()))
                .collect();
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = parts
                .into_iter()
                .zip(&self.0)
                .map(|(part, pool)| scope.spawn(move || pool.install(|| work(part))))
                .collect();
            running.into_iter().map(|part| part.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        })
    }
}
