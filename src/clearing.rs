//! Clearing: gateways that share no spent set with the issuer, and that the issuer does not trust (protocol, section 5,
//! "Settle").
//!
//! Such a gateway, a *remote* one, has the issuer admit each spend before it serves anything, and tells the issuer the
//! cost later. The issuer verifies the whole spend itself and keeps the record; it signs nothing for what it has not
//! admitted. Bytes in, bytes out: [`RemoteGateway`] makes the envelopes and checks the answers, [`Clearing`] is the
//! issuer's side. Carrying the bytes is left to the caller of both.
//!
//! ```text
//! wallet            remote gateway                                   issuer (Clearing)
//!   | opening bytes    |                                                |
//!   |----------------->| take: session signature                        |
//!   |                  |--- Admit { spend } --------------------------->| verifies the proof, inserts; owner = gateway id
//!   |                  |<-- admitted -----------------------------------|
//!   |                  | serves; now and then Meter { cost } ---------->| written down: the cost if the gateway dies
//!   |                  |--- Settle { cost } --------------------------->| signs the change, write-once
//!   |                  |<-- settled: the settlement --------------------|
//!   |<-----------------| checked under the epoch key of the directory   |
//! ```
//!
//! | request | says | answers |
//! | --- | --- | --- |
//! | Admit | the whole spend; its session signature was checked | admitted, settled, in-progress, double-spend, refused |
//! | Meter | what it has cost so far | metered, settled, refused |
//! | Settle | what it cost | settled, refused |
//! | Cancel | the whole spend, and what was metered until the work was stopped | settled, double-spend, refused |
//! | Fetch | which settlement | settled, in-progress, refused |
//!
//! **What each party may do.** A gateway acts on spends made for its own id, and on no other: the id is in `x`, and so
//! in the proof. A record's owner is the gateway's id, so that within the lease nobody else settles it; after the lease
//! the issuer's [`upkeep`](crate::upkeep) does, at what was metered. Another gateway's record and none look the same to
//! a gateway that asks. A record whose evidence is erased no longer says for which gateway it was. Its settlement goes
//! to a gateway that sends the whole spend again (Admit), as the spend's `x` says it.
//!
//! **Requests are signed, answers are not.** A request travels in an [`Envelope`] under the gateway's key of the directory. An
//! answer names the envelope by its digest, and a settlement is signed by an epoch's key, so that nobody but the issuer makes
//! one that is accepted. All else in an answer rests on TLS, by which the remote gateway must authenticate the issuer:
//! a forged `admitted` makes it serve unpaid work, and a forged refusal makes it serve nothing. TLS also hides from the
//! network what is spent when. Neither can touch a caller's credit.
//!
//! **Replays.** An envelope is accepted for [`Envelope::TOLERANCE`] seconds around its timestamp, and does the second time what
//! the same request in another envelope would: an admission finds the record, what is metered never goes down, a settlement is
//! write-once, no lease is renewed. Where the first one was refused before anything was inserted (`busy`), a second one may be
//! admitted; the gateway then has an open spend that nobody works on, which costs its caller nothing and is settled after the
//! lease.
//!
//! **Lost answers.** Settle, Meter, Cancel and Fetch are sent again until they are answered. An Admit whose answer is lost is
//! answered `in-progress` when it is sent again, and that is no leave to serve, as the issuer cannot tell a gateway that never
//! heard of its admission from one that was restarted while it served. The way out is a cancel, which gives the caller all of
//! its charge back. What a remote gateway has not settled when it dies is settled after its lease, at what it had metered.
//!
//! **Callers whose gateway is gone** ask the issuer itself, for settlements and cancels: [`Desk`].
//!
//! One process works under a remote gateway's id, or several between which a caller's retries are routed by `nf`.

mod answer;
mod carrying;
mod desk;
mod envelope;
mod error;
mod issuer;
mod problem;
mod remote_fetch;
mod remote_gateway;
mod remote_spend;
mod request;

pub use answer::ClearingAnswer;
pub use carrying::{Answered, Taken, Waiting};
pub use desk::{Desk, DeskError, DeskParts};
pub use envelope::{Envelope, EnvelopeError};
pub use error::ClearingError;
pub use issuer::{Clearing, ClearingParts};
pub use problem::ClearingProblem;
pub use remote_fetch::{RemoteFetch, RemoteFetched};
pub use remote_gateway::{RemoteGateway, RemoteGatewayError};
pub use remote_spend::{AnswerError, Cleared, Progress, RemoteError, RemoteSpend};
pub use request::ClearingRequest;
