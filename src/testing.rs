//! What the tests, benches and examples of this repository and the program's demo share. It is no part of the library's
//! interface: it is hidden, behind a feature of its own, and changes with what it serves.

#[cfg(all(feature = "durable", feature = "http"))]
pub mod chat;
#[cfg(all(feature = "durable", feature = "http"))]
mod kept;
pub mod fuzz;
#[cfg(all(feature = "durable", feature = "http"))]
pub mod stack;
pub mod world;
