//! Paid requests.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::client::Answer;
use super::{CallError, ClientError, Payer};
use crate::http::gateway::SETTLEMENT_PATH;
use crate::http::payment::{Credential, Payload, RECEIPT_HEADER, Receipt};
use crate::protocol::{ContentDigest, Problem, Request, Settlement, SpendKey};
use crate::wallet::{Accepted, AuthoriseError, Journal, ReadySpend};

/// How long a call waits for a proof.
const PROOF_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is sent, and a settlement asked for, before the call is given up.
const TRIES: u32 = 5;
/// The pause before the second try; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// An answer, and what it cost.
#[derive(Clone, Debug)]
pub struct Paid {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Charge, cost and refund.
    pub accepted: Accepted,
    /// How long it took.
    pub spent: Spent,
    /// Length of the `Authorization` header line, bytes.
    pub header_line: usize,
}

/// How long the parts of a call took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// To wait for a proof that was not ready.
    pub waiting: Duration,
    /// To take a ready spend, pin it, sign the request and print the credential.
    pub authorising: Duration,
    /// From then on to the accepted settlement.
    pub answering: Duration,
}

impl<J: Journal + 'static> Payer<J> {
    /// Sends a request to the gateway and pays for it.
    ///
    /// Answers of the service that are no success (a 404, say) are answers too; what they cost is in them. A request that gets
    /// no answer is sent again, with the same spend: it is charged once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, method: Method, target: &str, headers: HeaderMap, body: Bytes) -> Result<Paid, CallError> {
        let request = Request::new(&self.0.authority, method.as_str(), target, ContentDigest::of(&body))?;
        let mut spent = Spent::default();
        let (key, opening) = self.authorise(&request, &mut spent).await?;
        let header_line = "authorization: \r\n".len() + opening.len();

        let started = Instant::now();
        let mut headers = headers;
        headers.insert(header::AUTHORIZATION, opening);
        let answer = self.send(&key, method, target, headers, body).await?;
        let refused = || CallError::Refused(Box::new(answer.problem()));
        let settlement = match settlement_in(&answer) {
            Some(settlement) => settlement,
            // One of the protocol's refusals: the spend was not admitted, or belongs to somebody else's session.
            None if answer.is_problem() && answer.problem().kind().is_some() => return Err(refused()),
            // The service's own failure, for which the scheme has no receipt; or a refusal before admission.
            None => match self.fetch(&key).await {
                Ok(settlement) => settlement,
                Err(_) if answer.is_problem() => return Err(refused()),
                Err(error) => return Err(error),
            },
        };
        let accepted = self.accept(key, settlement).await?;
        spent.answering = started.elapsed();
        if answer.is_problem() && answer.problem().settlement.is_some() {
            return Err(CallError::Failed { details: Box::new(answer.problem()), accepted });
        }
        let Answer { status, headers, body } = answer;
        Ok(Paid { status, headers, body, accepted, spent, header_line })
    }

    /// Takes a ready spend and signs the request with it.
    async fn authorise(&self, request: &Request<'_>, spent: &mut Spent) -> Result<(SpendKey, HeaderValue), CallError> {
        let shared = &self.0.shared;
        let waiting = Instant::now();
        loop {
            let started;
            let authorised = {
                let ready = match tokio::time::timeout(PROOF_TIMEOUT, self.take()).await {
                    Ok(taken) => taken?,
                    Err(_) => return Err(CallError::NotReady),
                };
                started = Instant::now();
                spent.waiting = started - waiting;
                shared.wallet().authorise(ready, request, shared.clock.now())
            };
            match authorised {
                Ok(authorised) => {
                    let header = self.credential(Payload::Opening(authorised.opening))?;
                    spent.authorising = started.elapsed();
                    return Ok((authorised.key, header));
                }
                // It became old between the two: there are others.
                Err(AuthoriseError::Stale | AuthoriseError::NotFrontier(_)) => shared.changed.notify_waiters(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn take(&self) -> Result<ReadySpend, CallError> {
        let shared = &self.0.shared;
        loop {
            let changed = shared.changed.notified();
            let (taken, waiting) = {
                let mut wallet = shared.wallet();
                let taken = wallet.take(&shared.gateway, shared.class, shared.clock.now(), &mut rand::rng());
                (taken, wallet.balance().reserved > 0)
            };
            if let Some(ready) = taken {
                return Ok(ready);
            }
            if shared.prover_failed.load(Ordering::Relaxed) {
                return Err(CallError::Prover);
            }
            // A call that is on its way may bring its lane back above the class.
            if !waiting && shared.lanes_to_prove() == 0 && self.ready() == 0 {
                return Err(CallError::OutOfCredit);
            }
            shared.wanted.notify_one();
            changed.await;
        }
    }

    fn credential(&self, payload: Payload) -> Result<HeaderValue, CallError> {
        let credential = Credential { challenge: self.0.challenge.clone(), payload };
        let mut value = HeaderValue::from_str(&credential.to_header_value()).map_err(|_| CallError::Malformed)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Sends the request until it is answered with something else than "later".
    async fn send(
        &self,
        key: &SpendKey,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let url = format!("{}{target}", self.0.origin);
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let last = tries == TRIES;
            match self.0.client.send(method.clone(), url.clone(), headers.clone(), body.clone()).await {
                Ok(answer) => match answer.problem().kind().filter(|_| answer.is_problem()) {
                    Some(Problem::Busy | Problem::StoreUnavailable) if !last => {}
                    // Our own first try is being worked on, or was: its answer is lost, its settlement is not.
                    Some(Problem::InProgress) => return Err(self.lost(key).await),
                    Some(Problem::AlreadySpent) if tries > 1 => return Err(self.lost(key).await),
                    _ => return Ok(answer),
                },
                Err(error) if last => return Err(CallError::Unreachable(error)),
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// The settlement of a call whose answer is lost, as the error that says so.
    async fn lost(&self, key: &SpendKey) -> CallError {
        match self.fetch(key).await {
            Ok(settlement) => match self.accept(*key, settlement).await {
                Ok(accepted) => CallError::Lost(accepted),
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    /// Asks for a settlement until there is one.
    async fn fetch(&self, key: &SpendKey) -> Result<Settlement, CallError> {
        let request = Request::new(&self.0.authority, "POST", SETTLEMENT_PATH, ContentDigest::of(b""))?;
        let mut pause = PAUSE;
        for tries in 1.. {
            let following = self.0.shared.wallet().fetch(key, &request).map_err(|_| CallError::Malformed)?;
            let credential = self.credential(Payload::Following(following))?;
            let error = match self.0.client.settlement(&self.0.origin, credential).await {
                Ok(settlement) => return Ok(settlement),
                Err(error) => error,
            };
            let later = match &error {
                ClientError::Problem(problem) => {
                    let later = [Problem::InProgress, Problem::Busy, Problem::StoreUnavailable];
                    problem.kind().is_some_and(|kind| later.contains(&kind))
                }
                error => matches!(error, ClientError::Http(_)),
            };
            if !later || tries == TRIES {
                return Err(match error {
                    ClientError::Problem(problem) => CallError::Refused(problem),
                    error => CallError::Unreachable(error),
                });
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(CallError::Malformed)
    }

    /// Checks the settlement, a fraction of a millisecond of curve arithmetic, on a thread that may take its time.
    async fn accept(&self, key: SpendKey, settlement: Settlement) -> Result<Accepted, CallError> {
        let shared = self.0.shared.clone();
        let accepting = tokio::task::spawn_blocking(move || {
            let accepted = shared.wallet().accept(&key, &settlement);
            shared.changed.notify_waiters();
            accepted
        });
        Ok(accepting.await.map_err(|_| CallError::Malformed)??)
    }
}

/// The settlement in an answer: in the receipt of a success, in the details of a problem.
fn settlement_in(answer: &Answer) -> Option<Settlement> {
    let receipt = answer.headers.get(RECEIPT_HEADER).and_then(|value| value.to_str().ok());
    let bytes = match receipt {
        Some(receipt) => Receipt::from_header_value(receipt).ok()?.settlement().ok()?,
        None if answer.is_problem() => answer.problem().settlement()?,
        None => return None,
    };
    Settlement::from_bytes(&bytes).ok()
}
