//! Transfers: both halves in one commit of the set at hand.

use std::sync::Arc;

use bytes::Bytes;

use super::Local;
use crate::gateway::AdmitError;
use crate::http::clock::now;
use crate::http::exchange::problems::work_problem;
use crate::http::problem::ProblemDetails;
use crate::http::requests::Signed;
use crate::issuer::SettleError;
use crate::lifecycle::{ScreenedTransfer, Transferred};
use crate::pipeline::Source;
use crate::protocol::{Problem, Settlement};

/// Why a transfer was not carried out.
enum Failure {
    Admit(AdmitError),
    Settle(SettleError),
}

impl Local {
    /// Moves credit between lanes: the settlements of the giving half and of the taking one.
    pub(in crate::http::exchange) async fn transfer(
        &self,
        bytes: Bytes,
        signed: Signed,
        source: &Source,
    ) -> Result<[Settlement; 2], ProblemDetails> {
        let gateway = Arc::clone(&self.gateway);
        let screen = move || signed.with(|request| gateway.screen_transfer(&bytes, request, now()));
        let screened = self.run(screen).await.map_err(work_problem)??;
        let transfer = match screened.map_err(|error| self.refusal(error))? {
            ScreenedTransfer::Known(known) => return transferred(known),
            ScreenedTransfer::Unknown(transfer) => *transfer,
        };

        let (gateway, issuer) = (Arc::clone(&self.gateway), Arc::clone(&self.issuer));
        // Two proofs and a commit in a row: on a thread of its own, so that calls are not held up by a caller that sends many.
        let worked = self.transfers.run(move || {
            let verified = gateway.verify_transfer(transfer).map_err(Failure::Admit)?;
            match issuer.transfer(gateway.set(), verified, now()).map_err(Failure::Settle)? {
                Transferred::Conflict { spend, record } => Err(Failure::Admit(gateway.double_spend(*spend, &record))),
                stored => Ok(stored),
            }
        });
        match worked.await.map_err(work_problem)? {
            Ok(stored) => transferred(stored),
            Err(Failure::Admit(error)) => {
                if error.problem() == Problem::ProofInvalid {
                    source.suspect();
                }
                Err(self.refusal(error))
            }
            Err(Failure::Settle(error)) => Err(ProblemDetails::new(error.problem(), error.to_string())),
        }
    }
}

/// What a transfer that is in the set, or is not to be carried out, is answered with.
fn transferred(stored: Transferred) -> Result<[Settlement; 2], ProblemDetails> {
    match stored {
        Transferred::Settled(settled) => Ok(settled.map(|settled| settled.settlement().clone())),
        _ => {
            let detail = "one half was cancelled, so that nothing was moved: cancel the other half";
            Err(ProblemDetails::new(Problem::AlreadySpent, detail))
        }
    }
}
