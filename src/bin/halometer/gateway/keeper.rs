//! What changes while a gateway runs: its directory, by the clock and by the operator's will.

use std::sync::Arc;

use tracing::{info, warn};

use super::config::{Config, IssuerConfig, Loaded};
use super::due::{Due, DueError, due};
use super::front::Exchanged;
use super::log::IssuerLog;
use super::prices;
use super::publish::{self, PublishError};
use super::shared::{Shared, SharedError};
use super::start::{self, Prepared, Records, StartError};
use super::vault::{Vault, VaultError};
use halometer::clearing::{Clearing, ClearingParts, Desk, DeskParts};
use halometer::gateway::{Gateway, GatewayError};
use halometer::http::clock::now;
use halometer::http::exchange::{AdoptError, Adoption};
use halometer::http::gateway::GatewayService;
use halometer::http::issuer::IssuerService;
use halometer::issuer::{Issuer, IssuerError, PaymentNotices};
use halometer::protocol::{Directory, Timestamp};

/// Why nothing was changed: all goes on as it was. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ReloadError {
    /// The issuer is inside, and would be elsewhere, or the other way round.
    #[error("`issuer.kind` is another: that is for the next start, and so is all else in the file")]
    OtherKind,
    /// What the configuration asks for cannot follow what there is.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The directory that is due cannot be made.
    #[error(transparent)]
    Due(#[from] DueError),
    /// Keys are not at hand.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// What the replicas share.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// The issuer does not go on.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The gateway does not go on.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The service does not go on.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// What is opened at the start as well.
    #[error(transparent)]
    Start(Box<StartError>),
    /// A thread could not be started.
    #[error("no thread for the issuer: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<StartError> for ReloadError {
    fn from(error: StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

/// Makes the changes, one after the other.
pub(super) struct Keeper {
    vault: Vault,
    records: Records,
    file: Option<std::path::PathBuf>,
    /// What it started with, by which goes what does not change.
    started: Config,
    /// What it goes by now.
    config: Config,
    /// What it goes over to with the next directory.
    wished: Option<Config>,
    /// The newest directory that may have been seen.
    known: Directory,
    gateway: Arc<Gateway>,
    issuer: Arc<Issuer>,
    notices: Option<Arc<PaymentNotices>>,
    service: GatewayService,
    minting: IssuerService,
    routes: Exchanged,
    log: Arc<IssuerLog>,
    /// When keys are to be forgotten again.
    forget_at: Timestamp,
    /// What the replicas share; none if this process is alone.
    shared: Option<Shared>,
}

/// What the directory asks for.
enum Step {
    /// To go on with this one, or with the one that is known.
    On(Option<Box<Directory>>),
    /// To wait for a directory that is not there yet; until this time if that is known.
    Wait(Option<Timestamp>),
}

impl Keeper {
    /// With what there is after the start.
    pub(super) fn new(
        prepared: Prepared,
        started: Config,
        service: GatewayService,
        log: Arc<IssuerLog>,
    ) -> Result<Self, ReloadError> {
        let Prepared { vault, records, file, gateway, issuer, config, wished, shared, .. } = prepared;
        let notices = start::notices(&config, &records.payments)?;
        let house = House { started: &started, gateway: &gateway, records: &records, log: &log };
        let minting = house.minting(&config.issuer, &issuer, notices.as_ref())?;
        Ok(Self {
            known: issuer.directory().clone(),
            routes: Exchanged::new(minting.router()),
            started,
            forget_at: Timestamp::default(),
            vault,
            records,
            file,
            config,
            wished,
            shared,
            gateway,
            issuer,
            notices,
            service,
            minting,
            log,
        })
    }

    /// The issuer's routes.
    pub(super) fn routes(&self) -> &Exchanged {
        &self.routes
    }

    /// Number of the directory.
    pub(super) fn serial(&self) -> u64 {
        self.known.parts().serial
    }

    /// Where payments are written down.
    pub(super) fn records(&self) -> &Records {
        &self.records
    }

    /// Goes over to another configuration, as far as that can change, and says what of it has to wait for the next start.
    ///
    /// # Errors
    /// [`ReloadError`]; all goes on as it was.
    pub(super) fn reload(&mut self, loaded: &Loaded) -> Result<Vec<&'static str>, ReloadError> {
        let notices = start::notices(&loaded.config, &self.records.payments)?;
        self.go_on(&loaded.config, notices)?;
        Ok(waits(&self.started, &loaded.config))
    }

    /// Does what is due by the clock.
    ///
    /// # Errors
    /// [`ReloadError`]; all goes on as it was.
    pub(super) fn tick(&mut self) -> Result<(), ReloadError> {
        match self.wished.clone() {
            Some(wished) => {
                let notices = start::notices(&wished, &self.records.payments)?;
                self.go_on(&wished, notices)
            }
            None => {
                let (config, notices) = (self.config.clone(), self.notices.clone());
                self.go_on(&config, notices)
            }
        }
    }

    fn go_on(&mut self, config: &Config, notices: Option<Arc<PaymentNotices>>) -> Result<(), ReloadError> {
        let now = now();
        let next = match self.step(config, now)? {
            // All of it at once: prices that are counted and not published would be refused.
            Step::Wait(at) if *config != self.config => {
                if self.wished.as_ref() != Some(config) {
                    let at = at.map(Timestamp::seconds);
                    info!(at, "the new configuration is gone over to with the next directory");
                }
                self.wished = Some(config.clone());
                return Ok(());
            }
            Step::Wait(_) => None,
            Step::On(next) => next.map(|next| *next),
        };
        let wires = |issuer: &IssuerConfig| (issuer.payments.clone(), issuer.clearing.clone(), issuer.origins.clone());
        let rewired = wires(&config.issuer) != wires(&self.config.issuer);
        let (pricing, free) = (prices::pricing(config), prices::free(config));
        let changed = config.pricing != self.config.pricing || config.free != self.config.free;
        // Also after one that was written and not gone over to.
        let directory = next.as_ref().unwrap_or(&self.known);
        if directory == self.issuer.directory() && !changed && !rewired {
            (self.config, self.wished) = (config.clone(), None);
            self.forget(now);
            return Ok(());
        }

        // All of it, before anybody sees any of it.
        let root = self.vault.root_key()?;
        let keys = self.vault.epoch_keys()?;
        let issuer = Arc::new(self.issuer.succeed(&root, directory.clone(), keys)?);
        let gateway = Arc::new(self.gateway.adopt(directory.clone(), now)?);
        // The keys of notices belong to the service that takes them, and the gateways elsewhere to the one that clears for them.
        let rewired = match rewired {
            true => {
                let Self { started, records, log, .. } = &*self;
                let house = House { started, gateway: &gateway, records, log };
                Some(house.minting(&config.issuer, &issuer, notices.as_ref())?)
            }
            false => None,
        };
        if let Some(next) = next {
            // Known from here on, whatever happens next: another with its number would contradict it.
            if let Some(file) = &self.file {
                start::write_directory(file, &next, &root)?;
            }
            self.known = next;
        }
        let next = Adoption {
            gateway: Arc::clone(&gateway),
            issuer: Arc::clone(&issuer),
            pricing: Some(pricing),
            free: Some(free),
        };
        self.service.adopt(next)?;
        match rewired {
            None => self.minting.adopt(Arc::clone(&issuer))?,
            Some(minting) => {
                self.routes.set(minting.router());
                self.minting = minting;
            }
        }
        if issuer.directory() != self.issuer.directory() {
            info!(serial = self.known.parts().serial, "a directory is published");
        }
        (self.gateway, self.issuer, self.notices, self.config) = (gateway, issuer, notices, config.clone());
        self.wished = None;
        self.forget(now);
        Ok(())
    }

    /// What the directory asks for: of this process, or of the one among the replicas that leads.
    fn step(&mut self, config: &Config, now: Timestamp) -> Result<Step, ReloadError> {
        let set = Arc::clone(&self.records.set);
        if let Some(shared) = &mut self.shared {
            if let Some(next) = shared.latest(Some(&self.known), &mut self.vault)? {
                return Ok(Step::On(Some(Box::new(next))));
            }
            if !shared.leads() {
                let differs = publish::next(&self.known, config, self.vault.gateway(), now)?.is_some();
                return Ok(if differs { Step::Wait(None) } else { Step::On(None) });
            }
        }
        Ok(match due(&self.known, config, &mut self.vault, &*set, now)? {
            Due::Later(at) => Step::Wait(Some(at)),
            Due::Nothing => Step::On(None),
            Due::Now(next) => match &mut self.shared {
                None => Step::On(Some(next)),
                // All go over to it with their next look, within seconds of each other.
                Some(shared) => {
                    shared.publish(&next, &self.vault.root_key()?, &self.vault)?;
                    Step::Wait(None)
                }
            },
        })
    }

    /// Once an hour: it opens the sealed file.
    fn forget(&mut self, now: Timestamp) {
        if now < self.forget_at {
            return;
        }
        self.forget_at = now.after(3_600);
        let pulse = match self.records.set.pulse() {
            Ok(Some(pulse)) => pulse,
            Ok(None) => return,
            Err(error) => {
                return warn!(%error, "the store does not say what time surely has passed: no key is forgotten");
            }
        };
        match self.vault.forget(&self.known, &pulse) {
            Ok(epochs) => {
                epochs.iter().for_each(|epoch| info!(%epoch, "the key of an epoch that is over is forgotten"))
            }
            // They only stay longer than they have to.
            Err(error) => warn!(%error, "keys of epochs that are over could not be forgotten"),
        }
    }
}

/// What the issuer works with, besides its directory.
struct House<'a> {
    started: &'a Config,
    gateway: &'a Gateway,
    records: &'a Records,
    log: &'a Arc<IssuerLog>,
}

impl House<'_> {
    /// The issuer over HTTP.
    fn minting(
        &self,
        wished: &IssuerConfig,
        issuer: &Arc<Issuer>,
        notices: Option<&Arc<PaymentNotices>>,
    ) -> Result<IssuerService, ReloadError> {
        let (set, quotas) = (&self.records.set, start::quotas(self.started));
        let lease_seconds = self.gateway.lease_seconds();
        let mut service = IssuerService::start(Arc::clone(issuer))?.with_observer(Arc::clone(self.log) as _);
        service = service.with_spent_set(Arc::clone(set), start::a_minute(self.started.quotas.spent_per_minute))?;
        if let Some(notices) = notices {
            service = service.with_notices(Arc::clone(notices))?;
        }
        if !wished.clearing.is_empty() {
            let gateways = wished.clearing.iter().map(|gateway| gateway.id.0).collect();
            let (issuer, set) = (Arc::clone(issuer), Arc::clone(set));
            let parts = ClearingParts::new(issuer, set, gateways, lease_seconds).with_quotas(quotas);
            let limits = start::clearing_limits(self.started);
            service = service.with_clearing(Arc::new(Clearing::new(parts, now())?), limits)?;
        }
        if !wished.origins.is_empty() {
            let (issuer, set) = (Arc::clone(issuer), Arc::clone(set));
            let parts = DeskParts::new(issuer, set, lease_seconds).with_cancels(quotas.cancels);
            let origins: Vec<String> = wished.origins.iter().map(|origin| origin.as_str().to_owned()).collect();
            service = service.with_desk(Arc::new(Desk::new(parts, now())?), &origins)?;
        }
        Ok(service)
    }
}

/// The sections that are taken up at the next start only, and differ.
pub(super) fn waits(started: &Config, wished: &Config) -> Vec<&'static str> {
    let places = |config: &Config| {
        let issuer = &config.issuer;
        let files = (issuer.keys.clone(), issuer.unlock.clone(), issuer.directory.clone(), issuer.evidence.clone());
        (issuer.listen, issuer.tls.clone(), issuer.url.clone(), issuer.root_key, issuer.refresh_seconds, files)
    };
    let differ = [
        ("listen", started.listen != wished.listen),
        ("upstream", started.upstream != wished.upstream),
        ("admin", started.admin != wished.admin),
        ("log", started.log != wished.log),
        ("limits", started.limits != wished.limits),
        ("quotas", started.quotas != wished.quotas),
        ("upkeep", started.upkeep != wished.upkeep),
        ("store", started.store != wished.store),
        ("tls", started.tls != wished.tls),
        ("beside", started.beside != wished.beside),
        ("cluster", started.cluster != wished.cluster),
        ("issuer.kind", started.issuer.kind != wished.issuer.kind),
        ("issuer.payments.kind", started.issuer.payments.kind != wished.issuer.payments.kind),
        ("issuer, but for its schedule, payments, origins and clearing", places(started) != places(wished)),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}
