//! The core attacked from outside: the three parties in one process, with real proofs, by their public interfaces. Each test
//! name says what must hold, whatever the attacker does or whatever goes wrong.

mod admission;
mod audit;
mod budgets;
mod cancel;
mod clearing;
mod desk;
mod directory;
mod disputes;
mod double_spend;
mod epochs;
mod journal;
mod linkability;
mod lost;
mod mint;
mod naming;
mod one_call;
mod pipeline;
mod receipts;
mod refused;
mod replica_book;
mod restarts;
mod restore;
mod retry;
mod rollover;
mod settlement;
mod spent_set;
mod transfer;
mod upkeep;
mod wire;

use halometer::testing::world;
