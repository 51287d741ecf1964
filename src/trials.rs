//! Trials of the whole library that need its seams: proofs are left out, so that there are hundreds of spends a second.

mod hostile;
#[cfg(feature = "durable")]
mod kill;
mod model;
