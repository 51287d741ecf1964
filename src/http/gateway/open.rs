//! The way of a paid request, from its credential to its admission.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request as HttpRequest;
use axum::response::Response;
use http::StatusCode;

use super::received::{Received, Signed, read_credential};
use super::{Inner, Observer, work_problem};
use crate::gateway::{AdmitError, Gateway, Opened, Screened};
use crate::http::clock::now;
use crate::http::payment::Payload;
use crate::http::problem::ProblemDetails;
use crate::http::server::Connection;
use crate::lifecycle::{AuthenticSpend, VerifyError, verify_batch};
use crate::protocol::{Opening, Problem};

impl Inner {
    pub(super) async fn call(self: Arc<Self>, request: HttpRequest) -> Result<Response, ProblemDetails> {
        let Payload::Opening(opening) = read_credential(request.headers())? else {
            return Err(ProblemDetails::new(Problem::Malformed, "this credential opens no session"));
        };
        // Before the body is read: a caller who cannot even get the length right does not get to send one.
        if opening.len() != Opening::LENGTH {
            return Err(ProblemDetails::new(Problem::Malformed, "the spend has the wrong length"));
        }
        let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
        let received = self.receive(request, self.limits.max_body).await?;
        if !self.upstream.accepts(&received.target) {
            return Err(ProblemDetails::plain(StatusCode::NOT_FOUND, "there is no such path"));
        }
        // From here on in a task of its own: a caller who hangs up does not stop what has to be settled.
        let work = tokio::spawn(async move { self.open(opening, received, connection).await });
        work.await
            .unwrap_or_else(|_| Err(ProblemDetails::plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed")))
    }

    async fn open(
        self: Arc<Self>,
        opening: Vec<u8>,
        received: Received,
        connection: Connection,
    ) -> Result<Response, ProblemDetails> {
        let screened = {
            let gateway = Arc::clone(&self.gateway);
            let signed = Signed::of(&received);
            let screen = move || signed.with(|request| gateway.screen(&opening, request, now()));
            self.front.run(screen).await.map_err(work_problem)?
        };
        let spend = match screened?.map_err(|error| self.refusal(error))? {
            Screened::Known(opened) => return self.known(opened).await,
            Screened::Unknown(spend) | Screened::Conflict(spend) => spend,
        };
        let tariff = spend.spend().tariff;
        // A bad proof makes its whole batch be looked through, so that whoever sent one is verified alone from then on.
        let verdict = match connection.is_suspect() {
            true => self.verifier.submit_alone(spend).await,
            false => self.verifier.submit(spend).await,
        };
        match verdict.map_err(work_problem)? {
            Ok(Opened::Admitted(spend)) => self.work(spend, &tariff, received).await,
            Ok(opened) => self.known(opened).await,
            Err(error) => {
                if error.problem() == Problem::ProofInvalid {
                    connection.suspect();
                }
                Err(self.refusal(error))
            }
        }
    }

    /// Answers a spend that is in the set already. It is never served again.
    async fn known(&self, opened: Opened) -> Result<Response, ProblemDetails> {
        let settled = match opened {
            Opened::Settled(settled) => settled,
            Opened::Lapsed(spend) | Opened::Admitted(spend) => {
                let metered = spend.metered();
                self.settle(spend, metered).await?
            }
            Opened::InProgress => {
                return Err(ProblemDetails::new(Problem::InProgress, "this very spend is being worked on"));
            }
        };
        let detail = "this very spend was settled; its settlement is attached, and nothing more was charged";
        Err(ProblemDetails::new(Problem::AlreadySpent, detail).with_settlement(&settled.settlement().to_bytes()))
    }

    fn refusal(&self, error: AdmitError) -> ProblemDetails {
        let details = ProblemDetails::new(error.problem(), error.to_string());
        if let AdmitError::DoubleSpend(evidence) = error {
            self.observer.double_spend(*evidence);
        }
        details
    }
}

/// Runs on the verifying threads.
pub(super) fn verify_and_admit(
    gateway: &Gateway,
    observer: &dyn Observer,
    spends: Vec<AuthenticSpend>,
) -> Vec<Result<Opened, AdmitError>> {
    let count = spends.len();
    let started = Instant::now();
    let mut keyed = Vec::with_capacity(count);
    let mut keyless = vec![false; count];
    for (index, spend) in spends.into_iter().enumerate() {
        match gateway.verifying_key(spend.key().epoch) {
            Some(key) => keyed.push((spend, key)),
            None => keyless[index] = true,
        }
    }
    let mut verdicts = verify_batch(keyed, &mut rand::rng()).into_iter();
    observer.verified(count, started.elapsed());
    keyless
        .into_iter()
        .map(|keyless| match keyless {
            true => Err(VerifyError::OtherEpochKey.into()),
            // There is a verdict for every spend; if there were none, it would not be a good one.
            false => gateway.admit(verdicts.next().unwrap_or(Err(VerifyError::OtherEpochKey))?, now()),
        })
        .collect()
}
