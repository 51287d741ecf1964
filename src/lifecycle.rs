//! The states of a spend, as types.
//!
//! ```text
//! bytes --parse--> ParsedSpend --authenticate--> AuthenticSpend --verify--> VerifiedSpend --admit--> AdmittedSpend --settle--> SettledSpend
//! ```
//!
//! Each step consumes the state before it and is the only way to the next one, so that a function which takes an
//! [`AdmittedSpend`] cannot be called with anything whose proof was not verified and whose nullifier is not in the set. Gateway
//! and issuer both build on this; what is *policy* at a gateway (windows, classes, tariffs) is in [`gateway`](crate::gateway).
//!
//! What is not verified cannot be admitted:
//!
//! ```compile_fail,E0599
//! # use halometer::{lifecycle::*, protocol::*, store::*};
//! fn skip(spend: AuthenticSpend, set: &dyn SpentSet, lease: Lease) {
//!     let _ = spend.admit(set, lease);
//! }
//! ```
//!
//! What is not authentic cannot be verified, and so not admitted:
//!
//! ```compile_fail,E0599
//! # use halometer::{circuits::proof::VerifyingKey, lifecycle::*};
//! fn skip(spend: ParsedSpend, key: &VerifyingKey) {
//!     let _ = spend.verify(key);
//! }
//! ```
//!
//! What is not admitted cannot be settled:
//!
//! ```compile_fail,E0308
//! # use halometer::{issuer::Issuer, lifecycle::*, protocol::*, store::*};
//! fn skip(issuer: &Issuer, set: &dyn SpentSet, spend: VerifiedSpend) {
//!     let _ = issuer.settle(set, &spend, Credits::ZERO, Timestamp::from_seconds(0));
//! }
//! ```

mod admitted;
mod authentic;
mod bound;
mod evidence;
mod parsed;
mod settled;
mod transfer;
mod verified;

pub use admitted::{Admission, AdmittedSpend, Reclaim};
pub use authentic::AuthenticSpend;
pub use evidence::{Evidence, EvidenceError};
pub use parsed::{ParseError, ParsedSpend};
pub use settled::SettledSpend;
pub use transfer::{
    AuthenticTransfer, CheckedTransfer, ParsedTransfer, ScreenedTransfer, Transferred, VerifiedTransfer,
};
pub use verified::{VerifiedSpend, VerifyError, verify_batch};
