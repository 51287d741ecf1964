//! What a gateway allows.

use std::time::Duration;

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
}

impl Default for GatewayLimits {
    /// 4 MiB in 20 s, 1024 requests.
    fn default() -> Self {
        Self {
            max_body: 4 << 20,
            body_timeout: Duration::from_secs(20),
            requests: 1024,
            pipeline: PipelineLimits::default(),
        }
    }
}
