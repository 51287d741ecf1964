//! Going on under a newer directory, without a pause.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::ledger::Ledger;
use super::{Inner, authorities, refresh, upkeep};
use crate::clearing::RemoteGatewayError;
use crate::gateway::Gateway;
use crate::http::layer::PaymentLayerParts;
use crate::http::pattern::RoutePattern;
use crate::http::payment::Challenge;
use crate::http::pricing::Pricing;
use crate::http::remote::RemoteLayerParts;
use crate::issuer::Issuer;
use crate::pipeline::Current;
use crate::protocol::{Directory, DirectoryError, GatewayId, GatewaySigningKey, SignedDirectory};

/// What a gateway goes on with.
pub struct Adoption {
    /// The same gateway under the newer directory: [`Gateway::adopt`], which takes some 0.1 s for each new epoch and is not for an
    /// async thread.
    pub gateway: Arc<Gateway>,
    /// The issuer that has published that directory: [`Issuer::publish`] or [`Issuer::succeed`].
    pub issuer: Arc<Issuer>,
    /// What calls cost from now on; as before if there is none. It counts for spends under every tariff that is still accepted, so
    /// that each of them needs a price for all that it counts.
    pub pricing: Option<Box<dyn Pricing>>,
    /// Requests that cost nothing from now on; as before if there are none.
    pub free: Option<Vec<RoutePattern>>,
}

impl core::fmt::Debug for Adoption {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Adoption").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

/// Why a gateway does not go on under another directory. Its operator is at fault; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// It is another gateway: another id or owner, or over another set.
    #[error("this is another gateway, or one over another set")]
    OtherGateway,
    /// The directory cannot follow the one that is served.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The gateway and the issuer are not under one directory.
    #[error("the gateway and the issuer have different directories")]
    Torn,
    /// The directory does not name the gateway any more.
    #[error("the directory does not name this gateway")]
    NotNamed,
    /// The directory names another key for the gateway: nobody would believe its receipts.
    #[error("the key is not the one that the directory names for the gateway")]
    Key,
    /// What the directory says makes no challenge.
    #[error("the directory makes no challenge that a header can carry")]
    Challenge,
}

impl From<AdoptError> for io::Error {
    fn from(error: AdoptError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// What everybody is told, by one directory.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) challenge: HeaderValue,
    pub(super) directory: Bytes,
    /// The authorities of the gateway's origins, and each with its scheme's default port.
    pub(super) authorities: Vec<(String, String)>,
}

impl Terms {
    pub(super) fn here(gateway: &Gateway, issuer: &Issuer, key: &GatewaySigningKey) -> Result<Self, AdoptError> {
        if issuer.directory().digest() != gateway.directory().digest() {
            return Err(AdoptError::Torn);
        }
        Self::of(gateway.directory(), issuer.signed_directory(), &gateway.id(), key)
    }

    pub(super) fn of(
        directory: &Directory,
        signed: &SignedDirectory,
        gateway: &GatewayId,
        key: &GatewaySigningKey,
    ) -> Result<Self, AdoptError> {
        let entry = directory.gateway(gateway).ok_or(AdoptError::NotNamed)?;
        if entry.key != key.public_key() {
            return Err(AdoptError::Key);
        }
        let challenge = Challenge::of(directory, gateway).to_header_value();
        Ok(Self {
            challenge: HeaderValue::from_str(&challenge).map_err(|_| AdoptError::Challenge)?,
            directory: signed.to_bytes().into(),
            authorities: entry.origins.iter().filter_map(|origin| authorities(origin)).collect(),
        })
    }
}

/// What requests are worked on by now. Each takes it once, at its beginning, and never sees another.
#[derive(Debug)]
pub(in crate::http) struct Shared {
    inner: Current<Inner>,
    /// The same issuer as in there, for what belongs to no request.
    issuer: Option<Arc<Current<Issuer>>>,
    /// Held by whoever exchanges it.
    adopting: Mutex<()>,
    /// Upkeep, or the fetching of directories.
    task: Option<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    pub(in crate::http) fn start(mut parts: PaymentLayerParts) -> io::Result<Self> {
        let (task, set, observer) = (parts.upkeep.take(), parts.gateway.shared_set(), Arc::clone(&parts.observer));
        let issuer = Arc::new(Current::new(Arc::clone(&parts.issuer)));
        let inner = Current::new(Arc::new(Inner::start(parts, &issuer)?));
        // Last, as nothing would stop it if the rest failed.
        let upkeep = task.map(|task| upkeep::start(task, set, Arc::clone(&issuer), observer)).transpose()?;
        Ok(Self { inner, issuer: Some(issuer), adopting: Mutex::default(), task: upkeep })
    }

    pub(in crate::http) fn now(&self) -> Arc<Inner> {
        self.inner.get()
    }

    pub(in crate::http) fn adopt(&self, next: Adoption) -> Result<(), AdoptError> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.now().succeed(next)?;
        // Whoever is told of the new directory finds all that it takes: so they come last who tell it.
        if let (Ledger::Here(here), Some(issuer)) = (&next.ledger, &self.issuer) {
            here.pipeline.adopt(Arc::clone(&here.gateway));
            here.spent.adopt(here.gateway.directory());
            issuer.set(Arc::clone(&here.issuer));
        }
        self.inner.set(Arc::new(next));
        Ok(())
    }

    /// Goes on under the same directory with another pricing.
    pub(in crate::http) fn reprice(&self, pricing: Box<dyn Pricing>, free: Vec<RoutePattern>) {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.now();
        let (ledger, terms) = (inner.ledger.clone(), inner.terms.clone());
        self.inner.set(Arc::new(inner.with(ledger, terms, Some(pricing), Some(free))));
    }

    /// Starts a gateway without a set, and the task that fetches directories for it.
    pub(in crate::http) fn start_remote(parts: RemoteLayerParts) -> io::Result<Arc<Self>> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (root, refresh) = (parts.root, parts.refresh);
        let inner = Inner::start_remote(parts)?;
        let Ledger::There(there) = &inner.ledger else { return Err(io::Error::other("no remote ledger")) };
        let remote = there.remote();
        Ok(Arc::new_cyclic(|shared: &Weak<Self>| {
            let task = runtime.spawn(refresh::keep_fresh(shared.clone(), remote, root, refresh)).abort_handle();
            Self { inner: Current::new(Arc::new(inner)), issuer: None, adopting: Mutex::default(), task: Some(task) }
        }))
    }

    /// Goes on under a newer directory that was fetched and verified.
    pub(super) fn adopt_remote(&self, signed: &SignedDirectory, directory: Directory) -> Result<(), AdoptError> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.now();
        let Ledger::There(there) = &inner.ledger else { return Err(AdoptError::OtherGateway) };
        let there = there.succeed(directory).map_err(|error| match error {
            RemoteGatewayError::Directory(error) => AdoptError::Directory(error),
            RemoteGatewayError::NotInDirectory(_) => AdoptError::NotNamed,
            RemoteGatewayError::OtherKey(_) => AdoptError::Key,
        })?;
        let terms = Terms::of(there.gateway.directory(), signed, &there.gateway.id(), &inner.key)?;
        there.publish();
        let next = inner.with(Ledger::There(there), terms, None, None);
        if next.timeout() < next.call_timeout {
            inner.observer.issuer_failed("sessions are shorter now than calls may take: longer calls are cut short");
        }
        self.inner.set(Arc::new(next));
        Ok(())
    }
}

impl Inner {
    fn succeed(&self, next: Adoption) -> Result<Self, AdoptError> {
        let Adoption { gateway, issuer, pricing, free } = next;
        let Ledger::Here(here) = &self.ledger else { return Err(AdoptError::OtherGateway) };
        let same_set = Arc::ptr_eq(&gateway.shared_set(), &here.gateway.shared_set());
        if gateway.id() != here.gateway.id() || gateway.owner() != here.gateway.owner() || !same_set {
            return Err(AdoptError::OtherGateway);
        }
        gateway.directory().check_follows(here.gateway.directory())?;
        let terms = Terms::here(&gateway, &issuer, &self.key)?;
        Ok(self.with(Ledger::Here(here.succeed(gateway, issuer)), terms, pricing, free))
    }

    /// The same with what depends on the directory.
    fn with(
        &self,
        ledger: Ledger,
        terms: Terms,
        pricing: Option<Box<dyn Pricing>>,
        free: Option<Vec<RoutePattern>>,
    ) -> Self {
        Self {
            terms,
            ledger,
            pricing: pricing.map_or_else(|| Arc::clone(&self.pricing), Arc::from),
            free: free.map_or_else(|| Arc::clone(&self.free), Arc::from),
            call_timeout: self.call_timeout,
            observer: Arc::clone(&self.observer),
            limits: self.limits,
            places: Arc::clone(&self.places),
            running: Arc::clone(&self.running),
            sessions: Arc::clone(&self.sessions),
            key: Arc::clone(&self.key),
        }
    }
}
