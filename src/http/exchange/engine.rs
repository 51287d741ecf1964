//! The exchange of the moment, and what goes on beside all requests.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::Exchange;
use super::adopt::{AdoptError, Adoption, Terms};
use super::ledger::Ledger;
use super::local::start_upkeep;
use super::parts::{PaymentLayerParts, RemoteLayerParts};
use super::remote::keep_fresh;
use crate::clearing::RemoteGatewayError;
use crate::http::pattern::RoutePattern;
use crate::http::pricing::Pricing;
use crate::issuer::Issuer;
use crate::pipeline::Current;
use crate::protocol::{Directory, SignedDirectory};

/// What requests are worked on by now. Each takes it once, at its beginning, and never sees another.
#[derive(Debug)]
pub(in crate::http) struct Engine {
    exchange: Current<Exchange>,
    /// The same issuer as in there, for what belongs to no request.
    issuer: Option<Arc<Current<Issuer>>>,
    /// Held while it is exchanged.
    adopting: Mutex<()>,
    /// Upkeep, or the fetching of directories.
    task: Option<AbortHandle>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

impl Engine {
    pub(in crate::http) fn start(mut parts: PaymentLayerParts) -> io::Result<Self> {
        let (task, set) = (parts.upkeep.take(), parts.gateway.shared_set());
        let peers = parts.peers.clone();
        let observer = Arc::clone(&parts.exchange.observer);
        let issuer = Arc::new(Current::new(Arc::clone(&parts.issuer)));
        let exchange = Current::new(Arc::new(Exchange::start(parts, &issuer)?));
        // Last, as nothing would stop it if the rest failed.
        let upkeep = task.map(|task| start_upkeep(task, set, Arc::clone(&issuer), observer, peers)).transpose()?;
        Ok(Self { exchange, issuer: Some(issuer), adopting: Mutex::default(), task: upkeep })
    }

    pub(in crate::http) fn now(&self) -> Arc<Exchange> {
        self.exchange.get()
    }

    pub(in crate::http) fn adopt(&self, next: Adoption) -> Result<(), AdoptError> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.now().succeed(next)?;
        // Published last: readers of the new directory must find everything it names.
        if let (Ledger::Local(local), Some(issuer)) = (&next.ledger, &self.issuer) {
            local.publish();
            issuer.set(Arc::clone(&local.issuer));
        }
        self.exchange.set(Arc::new(next));
        Ok(())
    }

    /// Goes on under the same directory with another pricing.
    pub(in crate::http) fn reprice(&self, pricing: Box<dyn Pricing>, free: Vec<RoutePattern>) {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = self.now();
        let (ledger, terms) = (exchange.ledger.clone(), exchange.terms.clone());
        self.exchange.set(Arc::new(exchange.with(ledger, terms, Some(pricing), Some(free))));
    }

    /// Starts a gateway without a set, and the task that fetches directories for it.
    pub(in crate::http) fn start_remote(parts: RemoteLayerParts) -> io::Result<Arc<Self>> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (root, refresh) = (parts.root, parts.refresh);
        let exchange = Exchange::start_remote(parts)?;
        let Ledger::Remote(remote) = &exchange.ledger else { return Err(io::Error::other("no remote ledger")) };
        let link = remote.link();
        Ok(Arc::new_cyclic(|engine: &Weak<Self>| {
            let engine = engine.clone();
            let adopt: Box<_> = Box::new(move |signed: &SignedDirectory, directory| {
                engine.upgrade().map(|engine| engine.adopt_remote(signed, directory))
            });
            let task = runtime.spawn(keep_fresh(link, root, refresh, adopt)).abort_handle();
            Self {
                exchange: Current::new(Arc::new(exchange)),
                issuer: None,
                adopting: Mutex::default(),
                task: Some(task),
            }
        }))
    }

    /// Goes on under a newer directory that was fetched and verified.
    fn adopt_remote(&self, signed: &SignedDirectory, directory: Directory) -> Result<(), AdoptError> {
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let exchange = self.now();
        let Ledger::Remote(remote) = &exchange.ledger else { return Err(AdoptError::OtherGateway) };
        let remote = remote.succeed(directory).map_err(|error| match error {
            RemoteGatewayError::Directory(error) => AdoptError::Directory(error),
            RemoteGatewayError::NotInDirectory(_) => AdoptError::NotNamed,
            RemoteGatewayError::OtherKey(_) => AdoptError::Key,
        })?;
        let terms = Terms::of(remote.gateway.directory(), signed, &remote.gateway.id(), &exchange.key)?;
        remote.publish();
        let next = exchange.with(Ledger::Remote(remote), terms, None, None);
        if next.timeout() < next.call_timeout {
            exchange.observer.issuer_failed("sessions are shorter now than calls may take: longer calls are cut short");
        }
        self.exchange.set(Arc::new(next));
        Ok(())
    }

    /// Waits until no call is worked on, whatever it began under, and closes the sessions that are open then.
    pub(in crate::http) async fn drain(&self) -> usize {
        self.now().drain().await
    }
}
