//! Transfers.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header};

use super::ledger::Ledger;
use super::received::Received;
use super::{Exchange, work_problem};
use crate::gateway::AdmitError;
use crate::http::clock::now;
use crate::http::payment;
use crate::http::problem::ProblemDetails;
use crate::http::wire::TransferAnswer;
use crate::issuer::SettleError;
use crate::lifecycle::{ScreenedTransfer, Transferred};
use crate::pipeline::Source;
use crate::protocol::{Problem, Transfer};

/// Why a transfer was not carried out.
enum Failure {
    Admit(AdmitError),
    Settle(SettleError),
}

impl Exchange {
    pub(super) async fn transfer(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let source = request.extensions().get::<Source>().cloned().unwrap_or_default();
        let received = self.receive(request, Transfer::LENGTH).await?;
        self.apart(|exchange| async move { exchange.carry_out(received, source).await }).await
    }

    async fn carry_out(self: Arc<Self>, received: Received, source: Source) -> Result<Response, ProblemDetails> {
        let Ledger::Local(local) = &self.ledger else {
            let detail = "this gateway moves no credit between lanes: ask one that has the issuer's set";
            return Err(ProblemDetails::plain(StatusCode::NOT_FOUND, detail));
        };
        let (signed, bytes) = (received.signed_bare(), received.body.clone());
        let gateway = Arc::clone(&local.gateway);
        let screen = move || signed.with(|request| gateway.screen_transfer(&bytes, request, now()));
        let screened = local.pipeline.run(screen).await.map_err(work_problem)??;
        let transfer = match screened.map_err(|error| self.refusal(error))? {
            ScreenedTransfer::Known(known) => return transferred(known),
            ScreenedTransfer::Unknown(transfer) => transfer,
        };

        let (gateway, issuer) = (Arc::clone(&local.gateway), Arc::clone(&local.issuer));
        // Two proofs and a commit in a row: on a thread of its own, so that calls are not held up by whoever sends many.
        let worked = local.transfers.run(move || {
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
fn transferred(stored: Transferred) -> Result<Response, ProblemDetails> {
    match stored {
        Transferred::Settled(settled) => {
            let settlements = settled.map(|settled| payment::encode(&settled.settlement().to_bytes()));
            let headers = [(header::CACHE_CONTROL, "no-store")];
            Ok((headers, axum::Json(TransferAnswer { settlements })).into_response())
        }
        _ => {
            let detail = "one half was cancelled, so that nothing was moved: cancel the other half";
            Err(ProblemDetails::new(Problem::AlreadySpent, detail))
        }
    }
}
