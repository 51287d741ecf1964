//! The clock. The core has none; the rim brings the system's.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::protocol::Timestamp;

/// The time of the system's clock, whole seconds. A clock before 1970 counts as 1970: then every window is closed.
pub fn now() -> Timestamp {
    Timestamp::from_seconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
