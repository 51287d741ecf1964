//! Trials of the whole library that need its seams: proofs are left out, so that there are hundreds of spends a second.

#[cfg(test)]
mod hostile;
#[cfg(all(test, feature = "durable"))]
mod kill;
pub(crate) mod model;
