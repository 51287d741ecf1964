//! What a gateway allows.

use std::time::Duration;

/// Limits of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Longest request body, bytes.
    pub max_body: usize,
    /// How long a request body may take to arrive.
    pub body_timeout: Duration,
    /// Requests that are worked on at a time; one more is answered `busy`.
    pub requests: usize,
    /// Spends that wait to be verified; one more is answered `busy`.
    pub verify_queue: usize,
    /// Spends that are verified together, at most.
    pub verify_batch: usize,
    /// Threads that verify.
    pub verify_threads: usize,
}

impl Default for GatewayLimits {
    /// 4 MiB in 20 s, 1024 requests, 1024 spends waiting, 64 together, a thread for every core.
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            body_timeout: Duration::from_secs(20),
            requests: 1024,
            verify_queue: 1024,
            verify_batch: 64,
            verify_threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}
