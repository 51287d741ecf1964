//! Upkeep: what the clock makes due, with calls or without.
//!
//! If you run an issuer with its spent set, call [`Upkeep::tick`] every minute or so. Each tick, over all partitions:
//!
//! | step | when | what |
//! | --- | --- | --- |
//! | settle | the lease of an open record has run out | takes it over and settles it at what was metered; half a transfer at 0 |
//! | erase | a record was settled longer ago than the evidence window | its evidence goes; what is open keeps it |
//! | close | the spend window of the epoch is over | nothing is inserted any more |
//! | retire | the [grace](Upkeep::grace_seconds) after it is over, and nothing is open | the partition is dropped |
//! | tell | | partitions that are missing, epochs without a successor, what stands in the way, what failed |
//!
//! Every step can be done again: a tick that fails or dies in the middle is made up for by the next. What fails for one record
//! or one partition stops none of the others. Several processes may tick over one set. The clock is believed: one that is
//! behind does things late, and what is done is not undone when it goes back; one that is ahead erases, closes and retires early,
//! except that a partition is retired by a later tick than the one that closed it.
//!
//! **Missing partitions are not created.** A partition that an epoch of the directory should have and has not may be lost data,
//! and its notes may be spent already: an empty partition in its place would let them be spent again. [`begin_epoch`] creates the
//! partition of an epoch that nobody knows yet.

mod begin_epoch;
mod report;
mod tick;

pub use begin_epoch::{BeginEpochError, begin_epoch};
pub use report::{Unretired, UpkeepFailure, UpkeepReport, UpkeepStep, Warning};
pub use tick::{Upkeep, UpkeepError, UpkeepParts};
