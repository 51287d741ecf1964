//! The way of a paid request, from its credential to its admission.

use std::sync::Arc;

use axum::extract::Request as HttpRequest;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::forward::Next;
use super::ledger::{Errand, Found, Screening};
use super::local::Local;
use super::metering::{Bill, Purse};
use super::received::Received;
use super::session::{Reserved, read_following};
use super::work::{Reply, Work};
use super::{Exchange, failed, work_problem};
use crate::gateway::{AdmitError, Opened};
use crate::http::payment::Payload;
use crate::http::pricing::{Call, Meter, Rates};
use crate::http::problem::ProblemDetails;
use crate::http::requests::{Signed, read_credential};
use crate::lifecycle::AuthenticSpend;
use crate::pipeline::{PipelineError, Source};
use crate::protocol::{Action, Credits, Digest, Following, Opening, Problem};

/// What a request for the service pays with.
pub(super) enum Paying {
    Opening(Vec<u8>),
    Following(Box<Following>),
}

impl Paying {
    /// Before the body is read: a caller who cannot even get the length right does not get to send one.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, ProblemDetails> {
        match read_credential(headers)? {
            Payload::Opening(opening) if opening.len() != Opening::LENGTH => {
                Err(ProblemDetails::new(Problem::Malformed, "the spend has the wrong length"))
            }
            Payload::Opening(opening) => Ok(Self::Opening(opening)),
            Payload::Following(following) => {
                read_following(&following, Action::Call).map(|following| Self::Following(Box::new(following)))
            }
        }
    }
}

impl Exchange {
    pub(super) async fn call(self: Arc<Self>, request: HttpRequest, next: Next) -> Result<Response, ProblemDetails> {
        let opening = match Paying::read(request.headers())? {
            Paying::Opening(opening) => opening,
            Paying::Following(following) => return self.session_call(*following, request, next).await,
        };
        let connection = request.extensions().get::<Source>().cloned().unwrap_or_default();
        let received = self.receive(request, self.limits.max_body).await?;
        let meter = self.meter(&received)?;
        // In a task of its own: a caller who hangs up does not stop what has to be settled.
        let (mut reply, answer) = Reply::new();
        tokio::spawn(async move {
            if let Err(problem) = self.open(opening, received, connection, meter, next, &mut reply).await {
                reply.send(Err(problem));
            }
        });
        answer.await.unwrap_or_else(|_| Err(failed()))
    }

    /// What meters a request.
    pub(super) fn meter(&self, received: &Received) -> Result<Box<dyn Meter>, ProblemDetails> {
        let Parts { method, headers, .. } = &received.parts;
        let call = Call { method, target: &received.target, headers, body: &received.body };
        let meter = self.pricing.meter(&call);
        meter.map_err(|error| ProblemDetails::plain(StatusCode::NOT_FOUND, error.to_string()))
    }

    /// What a charge is spent by.
    pub(super) fn rates(&self, tariff: &Digest, charge: Credits) -> Rates {
        let directory = self.ledger.directory();
        // The one that the caller agreed to. It was valid when the spend was admitted; by now it may be gone from `accepted_tariff`.
        let tariff = directory.parts().tariffs.iter().find(|known| known.digest() == *tariff);
        Rates::new(tariff.cloned(), directory.quantum(), charge)
    }

    async fn open(
        self: Arc<Self>,
        opening: Vec<u8>,
        received: Received,
        connection: Source,
        meter: Box<dyn Meter>,
        next: Next,
        reply: &mut Reply,
    ) -> Result<(), ProblemDetails> {
        let Reserved { exchange, bill, entry } = self.admit(opening, received.signed(), &connection, meter).await?;
        exchange.work(Work { received, bill, next }, &entry, reply).await
    }

    /// Admits a spend that opens a session of one call.
    pub(super) async fn admit(
        self: Arc<Self>,
        opening: Vec<u8>,
        signed: Signed,
        source: &Source,
        meter: Box<dyn Meter>,
    ) -> Result<Reserved, ProblemDetails> {
        let (screening, content) = self.screen(opening.into(), signed, Errand::Session).await?;
        let candidate = match screening {
            Screening::Known(found) => return Err(self.known(found).await),
            Screening::Fresh(candidate) => candidate,
        };
        let tariff = candidate.tariff;
        // Before it can be admitted, so that no cancel finds work that it cannot stop.
        let entry = self.running.enter(candidate.key);
        let held = match self.take_in(*candidate, source).await? {
            Found::Admitted(held) => held,
            found => return Err(self.known(found).await),
        };
        let rates = self.rates(&tariff, held.charge());
        let bill = Bill::new(Purse::Whole(held), rates, meter, content);
        Ok(Reserved { exchange: self, bill, entry })
    }

    /// Verifies and admits on the pipeline's threads.
    pub(super) async fn verify(
        &self,
        local: &Local,
        spend: AuthenticSpend,
        source: &Source,
    ) -> Result<Opened, ProblemDetails> {
        local.pipeline.verify(spend, source).await.map_err(|error| match error {
            PipelineError::Admit(error) => self.refusal(error),
            PipelineError::Work(error) => work_problem(error),
            error => ProblemDetails::new(error.problem(), error.to_string()),
        })
    }

    pub(super) fn refusal(&self, error: AdmitError) -> ProblemDetails {
        let details = ProblemDetails::new(error.problem(), error.to_string());
        if matches!(error, AdmitError::DoubleSpend(_) | AdmitError::AlreadySpent) {
            self.observer.conflict();
        }
        if let AdmitError::DoubleSpend(evidence) = error {
            self.observer.double_spend(*evidence);
        }
        details
    }
}
