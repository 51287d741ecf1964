//! The issuer over HTTP.
//!
//! | route | request | answer |
//! | --- | --- | --- |
//! | `GET /.well-known/halometer/directory` | | the bytes of a [`SignedDirectory`](crate::protocol::SignedDirectory) |
//! | `POST /.well-known/halometer/mint` | the bytes of a [`MintRequest`](crate::protocol::MintRequest) | the bytes of a [`MintAnswer`](crate::protocol::MintAnswer) |
//! | `POST /.well-known/halometer/notice` | a payment notice: [`PaymentNotices`] | a [`NoticeAnswer`] |
//! | `POST /.well-known/halometer/settlement` | a following credential, as at a gateway | the settlement: [`SettlementAnswer`](super::wire::SettlementAnswer) |
//! | `POST /.well-known/halometer/cancel` | the bytes of a [`Cancellation`](crate::protocol::Cancellation) | the settlement |
//! | `POST /.well-known/halometer/clearing` | the bytes of an [`Envelope`](crate::clearing::Envelope) | the bytes of a [`ClearingAnswer`](crate::clearing::ClearingAnswer) |
//! | `GET /.well-known/halometer/openapi.json` | | the [description](super::openapi) of these routes |
//! | `POST /.well-known/halometer/restore/mints` | the bytes of an [`AccountQuery`](crate::protocol::AccountQuery) | the bytes of a [`MintsFound`](crate::protocol::MintsFound) |
//! | `POST /.well-known/halometer/restore/..` | the last spend of a lane, where the set is at hand | its memo, its settlement |
//! | `GET /.well-known/halometer/spent/..` | | which notes are spent, where the set is at hand: [`SPENT_PATH`](super::wire::SPENT_PATH) |
//!
//! All but the directory, the mint and the mints of accounts are served where they are asked for: [`with_notices`](IssuerService::with_notices),
//! [`with_desk`](IssuerService::with_desk), [`with_clearing`](IssuerService::with_clearing),
//! [`with_spent_set`](IssuerService::with_spent_set). What is not is 404.
//!
//! A settlement or a cancel may be asked for here of a spend that was made for any gateway of the issuer. Its session signature is
//! for the issuer's own authority, one of the origins that the desk is given, and not for the gateway's: see
//! [`Desk`].
//!
//! A mint request holds secrets between the payer and the issuer, and who can forge an answer of clearing makes a gateway serve what
//! is not paid: outside of one machine all of this travels over TLS. An issuer has no challenge to put beside a 402, so that what is
//! wrong with a request is 400 or 404 here where a gateway says 402.

mod clearing;
mod desk;
mod mint;
mod notices;
mod observer;
mod restore;

use clearing::ClearingHouse;
pub use clearing::ClearingLimits;
use desk::DeskDoor;
use notices::Notices;
pub use notices::{NOTICE_SIGNATURE, NoticeAnswer, NoticeResult};
pub use observer::IssuerObserver;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clock::now;
use super::observer::NoObserver;
use super::openapi::openapi;
use super::problem::ProblemDetails;
use super::requests::{read_body, sender};
use super::spent::SpentBuckets;
use super::wire::{
    CANCEL_PATH, CLEARING_PATH, DIRECTORY_PATH, MINT_PATH, NOTICE_PATH, OPENAPI_PATH, RESTORE_MINTS_PATH,
    SETTLEMENT_PATH, pad_answer,
};
use crate::clearing::{Clearing, Desk};
use crate::gateway::{GatewayError, Rate};
use crate::issuer::{Issuer, PaymentNotices};
use crate::pipeline::Current;
use crate::protocol::Problem;
use crate::quota::{Share, Shares};
use crate::store::SpentSet;
use crate::workers::{TaskPool, WorkError};

/// Mints that wait, and notices; one more is answered `busy`.
const QUEUE: usize = 256;
/// Requests of anybody that are read or worked on at a time; one more is answered `busy`.
const PLACES: usize = 512;
/// How long a request's body may take to arrive. The longest is 64 KiB.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const BYTES: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/octet-stream");

/// An issuer as an HTTP service. Cheap to clone.
#[derive(Clone)]
pub struct IssuerService {
    issuer: Arc<Current<Issuer>>,
    observer: Arc<dyn IssuerObserver>,
    notices: Option<Arc<Notices>>,
    desk: Option<Arc<DeskDoor>>,
    clearing: Option<Arc<ClearingHouse>>,
    workers: Arc<TaskPool>,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
    spent: Option<SpentBuckets>,
    /// Held by the task that goes on under a newer directory.
    adopting: Arc<Mutex<()>>,
}

/// A place, and the sender's share of them.
type Place = (OwnedSemaphorePermit, Share);

impl core::fmt::Debug for IssuerService {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IssuerService").field("issuer", &self.issuer.get()).finish_non_exhaustive()
    }
}

impl IssuerService {
    /// Starts the worker thread.
    ///
    /// # Errors
    /// The system's, if it cannot be started.
    pub fn start(issuer: Arc<Issuer>) -> io::Result<Self> {
        Ok(Self {
            issuer: Arc::new(Current::new(issuer)),
            observer: Arc::new(NoObserver),
            notices: None,
            desk: None,
            clearing: None,
            workers: Arc::new(TaskPool::start("mint", 1, QUEUE)?),
            places: Arc::new(Semaphore::new(PLACES)),
            shares: Arc::new(Shares::new(PLACES / 2)),
            spent: None,
            adopting: Arc::default(),
        })
    }

    /// Tells this one what happens. To be given before [`with_clearing`](Self::with_clearing).
    #[must_use]
    pub fn with_observer(self, observer: Arc<dyn IssuerObserver>) -> Self {
        Self { observer, ..self }
    }

    /// Takes payment notices as well: what feeds the issuer's [`PaymentSource`](crate::issuer::PaymentSource), which should be
    /// these. Without them the route is 404.
    ///
    /// # Errors
    /// The system's, if the thread that reads them cannot be started.
    pub fn with_notices(self, notices: Arc<PaymentNotices>) -> io::Result<Self> {
        Ok(Self { notices: Some(Arc::new(Notices::start(notices)?)), ..self })
    }

    /// Tells as well which notes are spent, out of the set that the issuer settles in. `rate` is for all who ask.
    ///
    /// # Errors
    /// The system's, if the thread that reads cannot be started.
    pub fn with_spent_set(self, set: Arc<dyn SpentSet>, rate: Rate) -> io::Result<Self> {
        let spent = SpentBuckets::start(set, self.issuer.get().directory(), rate)?;
        Ok(Self { spent: Some(spent), ..self })
    }

    /// Answers callers whose gateway does not. `origins` are the issuer's own addresses as callers know them, for instance
    /// `https://issuer.example.org`: what session signatures are for here.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started; [`io::ErrorKind::InvalidInput`] if there is no origin, or one that is none.
    pub fn with_desk(self, desk: Arc<Desk>, origins: &[String]) -> io::Result<Self> {
        Ok(Self { desk: Some(Arc::new(DeskDoor::start(desk, origins)?)), ..self })
    }

    /// Clears for gateways that share no set.
    ///
    /// # Errors
    /// The system's, if a thread cannot be started.
    pub fn with_clearing(self, clearing: Arc<Clearing>, limits: ClearingLimits) -> io::Result<Self> {
        let house = ClearingHouse::start(clearing, limits, Arc::clone(&self.observer))?;
        Ok(Self { clearing: Some(Arc::new(house)), ..self })
    }

    /// Goes on under a newer directory: that of `issuer`, which follows the present one's ([`Issuer::publish`] or
    /// [`Issuer::succeed`]). Builds the verifying keys of new epochs where there is a desk or clearing, some 0.1 s each, so that it is
    /// not for an async thread. No request is lost; each is answered by what it began with.
    ///
    /// # Errors
    /// [`GatewayError`], among them a directory that contradicts; nothing has changed then.
    pub fn adopt(&self, issuer: Arc<Issuer>) -> Result<(), GatewayError> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        issuer.directory().check_follows(self.issuer.get().directory())?;
        let desk = self.desk.as_deref().map(|door| door.desk.get().adopt(Arc::clone(&issuer), now())).transpose()?;
        let clearing = self.clearing.as_deref().map(|house| house.clearing.get().adopt(Arc::clone(&issuer), now()));
        let clearing = clearing.transpose()?;
        // Published last: readers of the new directory must find everything it names.
        if let (Some(door), Some(desk)) = (&self.desk, desk) {
            door.desk.set(Arc::new(desk));
        }
        if let (Some(house), Some(clearing)) = (&self.clearing, clearing) {
            house.clearing.set(Arc::new(clearing));
        }
        if let Some(spent) = &self.spent {
            spent.adopt(issuer.directory());
        }
        self.issuer.set(issuer);
        Ok(())
    }

    /// All routes, and 404 for what is none. To be merged with others without the latter: `reset_fallback`.
    pub fn router(&self) -> Router {
        let routes = self.callers_router().merge(self.clearing_router());
        routes.fallback(ProblemDetails::not_found)
    }

    /// The routes for everybody, without clearing: put that at an address which only your gateways reach.
    pub fn callers_router(&self) -> Router {
        let spent = self.spent.as_ref().map(|spent| spent.router()).unwrap_or_default();
        Router::new()
            .route(DIRECTORY_PATH, get(directory))
            .route(OPENAPI_PATH, get(openapi))
            .route(MINT_PATH, post(mint::mint))
            .route(NOTICE_PATH, post(notices::notice))
            .route(RESTORE_MINTS_PATH, post(restore::mints))
            .route(SETTLEMENT_PATH, post(desk::settlement))
            .route(CANCEL_PATH, post(desk::cancel))
            .with_state(self.clone())
            .merge(spent)
            .method_not_allowed_fallback(ProblemDetails::method_not_allowed)
            .layer(from_fn(pad_answer))
    }

    /// The route for gateways that share no set: [`CLEARING_PATH`].
    pub fn clearing_router(&self) -> Router {
        let routes = Router::new().route(CLEARING_PATH, post(clearing::clearing)).with_state(self.clone());
        routes.method_not_allowed_fallback(ProblemDetails::method_not_allowed)
    }

    /// Takes a place and reads the body, which is not longer than `max`. The place is kept until the request is answered.
    async fn receive(&self, request: HttpRequest, max: usize) -> Result<(Parts, Bytes, Place), ProblemDetails> {
        let busy = || work_problem(WorkError::Busy);
        let share = self.shares.take(sender(request.extensions())).ok_or_else(busy)?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        let place = (place, share);
        let (parts, body) = request.into_parts();
        Ok((parts, read_body(body, max, BODY_TIMEOUT).await?, place))
    }
}

fn answered(outcome: Result<Response, ProblemDetails>) -> Response {
    outcome.unwrap_or_else(IntoResponse::into_response)
}

async fn directory(State(service): State<IssuerService>) -> Response {
    let bytes = service.issuer.get().signed_directory().to_bytes();
    ([BYTES, (header::CACHE_CONTROL, "no-cache")], bytes).into_response()
}

fn bytes_answer(bytes: Vec<u8>) -> Response {
    ([BYTES, (header::CACHE_CONTROL, "no-store")], bytes).into_response()
}

fn work_problem(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => ProblemDetails::new(Problem::Busy, "too much is waiting already; nothing was done"),
        WorkError::Gone => ProblemDetails::new(Problem::StoreUnavailable, "the issuer could not finish this"),
    }
}
