//! What a gateway allows.

use std::time::Duration;

use crate::gateway::Rate;
use crate::pipeline::PipelineLimits;

/// Limits of a gateway.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
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

impl GatewayLimits {
    /// The same with this [`max_body`](Self::max_body).
    #[must_use]
    pub fn with_max_body(self, max_body: usize) -> Self {
        Self { max_body, ..self }
    }

    /// The same with this [`body_timeout`](Self::body_timeout).
    #[must_use]
    pub fn with_body_timeout(self, body_timeout: Duration) -> Self {
        Self { body_timeout, ..self }
    }

    /// The same with this [`max_whole`](Self::max_whole).
    #[must_use]
    pub fn with_max_whole(self, max_whole: usize) -> Self {
        Self { max_whole, ..self }
    }

    /// The same with this [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// The same with this [`requests`](Self::requests).
    #[must_use]
    pub fn with_requests(self, requests: usize) -> Self {
        Self { requests, ..self }
    }

    /// The same with this [`pipeline`](Self::pipeline).
    #[must_use]
    pub fn with_pipeline(self, pipeline: PipelineLimits) -> Self {
        Self { pipeline, ..self }
    }

    /// The same with this [`sessions`](Self::sessions).
    #[must_use]
    pub fn with_sessions(self, sessions: usize) -> Self {
        Self { sessions, ..self }
    }

    /// The same with this [`spent`](Self::spent).
    #[must_use]
    pub fn with_spent(self, spent: Rate) -> Self {
        Self { spent, ..self }
    }
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
