//! What a gateway allows.

use std::time::Duration;

use crate::gateway::Rate;
use crate::pipeline::PipelineLimits;

/// Limits of a gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// Longest request body, bytes.
    pub max_body: usize,
    /// How long a request body may take to arrive.
    pub body_timeout: Duration,
    /// Longest answer that is kept until it is whole, bytes, so that its receipt is in its header. What is longer is passed on as it
    /// comes, as streams are.
    pub max_whole: usize,
    /// How long the service may take from one chunk of its answer to the next, and the caller to take one.
    pub idle_timeout: Duration,
    /// Requests that are worked on at a time; one more is answered `busy`.
    pub requests: usize,
    /// Threads that verify, and what waits for them; one spend more is answered `busy`.
    pub pipeline: PipelineLimits,
    /// Sessions of several calls that are open at a time; one more is answered `busy`.
    pub sessions: usize,
    /// Questions which notes are spent, over all who ask.
    pub spent: Rate,
}

impl Default for GatewayLimits {
    /// 4 MiB in 20 s, whole answers of 1 MiB, 60 s between chunks, 1024 requests, 10,000 sessions, 600 questions a minute.
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            body_timeout: Duration::from_secs(20),
            max_whole: 1 << 20,
            idle_timeout: Duration::from_secs(60),
            requests: 1024,
            sessions: 10_000,
            pipeline: PipelineLimits::default(),
            spent: Rate { per_minute: 600, burst: 600 },
        }
    }
}
