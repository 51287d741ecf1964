//! How long a call may take, so that the lease of its spend outlasts it.

use std::time::Duration;

use crate::gateway::Gateway;
use crate::protocol::Directory;

/// What a call may take besides the service's time: to be queued, and to be settled, a few tries included.
const SETTLING: Duration = Duration::from_secs(30);

/// Whether a lease is long enough for a call of this length to be settled in it.
pub(super) fn outlasts(lease: Duration, call: Duration) -> bool {
    call.saturating_add(SETTLING) < lease
}

/// The longest call that such a lease is long enough for.
pub(super) fn longest(lease: Duration) -> Duration {
    lease.saturating_sub(SETTLING + Duration::from_nanos(1))
}

/// The lease of a gateway without a set: the issuer's, which is longer than this by its own rule.
pub(super) fn remote_lease(directory: &Directory) -> Duration {
    Duration::from_secs(u64::from(directory.parts().limits.session_seconds) + Gateway::SKEW)
}

/// How long a call may take at a gateway whose issuer is elsewhere, under this directory: what is admitted is settled within the
/// longest session.
pub fn longest_call(directory: &Directory) -> Duration {
    longest(remote_lease(directory))
}
