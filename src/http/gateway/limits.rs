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
    /// Requests that are worked on at a time; one more is answered `busy`.
    pub requests: usize,
    /// Threads that verify, and what waits for them; one spend more is answered `busy`.
    pub pipeline: PipelineLimits,
    /// Questions which notes are spent, over all who ask.
    pub spent: Rate,
}

impl Default for GatewayLimits {
    /// 4 MiB in 20 s, 1024 requests, 600 questions a minute.
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            body_timeout: Duration::from_secs(20),
            requests: 1024,
            pipeline: PipelineLimits::default(),
            spent: Rate { per_minute: 600, burst: 600 },
        }
    }
}
