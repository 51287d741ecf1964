//! A gateway whose issuer is elsewhere.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::config::{Config, Loaded, issuer_client};
use super::keeper::{ReloadError, waits};
use super::publish::{self, PublishError};
use super::start::{self, StartError};
use super::vault::{GatewayIdentity, exposed};
use crate::hex;
use crate::http::clock::now;
use crate::http::gateway::GatewayService;
use crate::http::operate::Tally;
use crate::http::remote::{IssuerClient, RemoteLayerParts};
use crate::protocol::{Directory, RootKey, SignedDirectory};

/// How long an issuer who does not answer at the start is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// What there is before anybody is served.
struct Known {
    identity: GatewayIdentity,
    issuer: IssuerClient,
    root: RootKey,
    signed: SignedDirectory,
    directory: Directory,
}

impl Known {
    /// Opens the key, and asks the issuer for his directory, for so long.
    async fn find(config: &Config, patience: Duration) -> Result<Self, StartError> {
        let (keys, unlock) = (config.issuer.keys.clone(), config.issuer.unlock.clone());
        // A passphrase is stretched for a while.
        let opened = tokio::task::spawn_blocking(move || GatewayIdentity::open(&keys, &unlock)).await;
        let identity = opened.map_err(|error| StartError::File(config.issuer.keys.clone(), error.into()))??;
        let issuer = issuer_client(config.issuer.url.as_deref().unwrap_or_default())?;
        let root = config.issuer.root_key.ok_or(StartError::NoRootKey)?.0;
        let signed = ask(&issuer, patience).await?;
        let directory = signed.verify(&root).map_err(StartError::IssuerDirectory)?;
        let key = identity.key.public_key();
        if directory.gateway(&identity.id).is_none_or(|entry| entry.key != key) {
            return Err(StartError::NotNamed { id: identity.id, key: hex::encode(&key.to_bytes()) });
        }
        match directory.tariff(now()).and_then(|tariff| publish::unpriced(&config.pricing, tariff)) {
            Some(item) => Err(StartError::Unpriced(item.to_owned())),
            None => Ok(Self { identity, issuer, root, signed, directory }),
        }
    }
}

async fn ask(issuer: &IssuerClient, patience: Duration) -> Result<SignedDirectory, StartError> {
    let (end, mut told) = (Instant::now() + patience, false);
    loop {
        let trouble = match issuer.directory().await {
            Ok(signed) => return Ok(signed),
            Err(trouble) => trouble,
        };
        if Instant::now() + PAUSE > end {
            return Err(StartError::IssuerAway(trouble));
        }
        if !core::mem::replace(&mut told, true) {
            warn!(error = %trouble, "the issuer does not show his directory; he is asked again");
        }
        sleep(PAUSE).await;
    }
}

/// What is found without serving anybody.
pub(super) async fn check(loaded: &Loaded) -> Result<Vec<String>, StartError> {
    let config = &loaded.config;
    start::check_rim(config)?;
    let Known { identity, directory, .. } = Known::find(config, Duration::ZERO).await?;
    let origins = directory.gateway(&identity.id).map(|entry| entry.origins.join(", ")).unwrap_or_default();
    let serial = directory.parts().serial;
    let mut found = vec![
        format!("gateway {}, issuer {}", identity.id, directory.issuer()),
        format!("directory {serial} of the issuer names this gateway, as {origins}"),
    ];
    found.extend(exposed(config).iter().map(|path| format!("others may read {}", path.display())));
    Ok(found)
}

/// Makes the changes that are not the issuer's.
pub(super) struct RemoteKeeper {
    /// What it started with, by which goes what does not change.
    started: Config,
    /// What it goes by now.
    config: Config,
    service: GatewayService,
    root: RootKey,
    /// The directory that was last told of.
    serial: u64,
    /// Held as long as it runs.
    _in_use: File,
}

impl RemoteKeeper {
    /// Starts the service.
    pub(super) async fn start(config: Config, tally: &Arc<Tally>) -> Result<Self, StartError> {
        let Known { identity, issuer, root, signed, directory } = Known::find(&config, PATIENCE).await?;
        let upstream = start::upstream(&config)?;
        let parts = RemoteLayerParts {
            id: identity.id,
            key: identity.key,
            root,
            directory: signed,
            issuer,
            refresh: Duration::from_secs(config.issuer.refresh_seconds.into()),
            pricing: start::pricing(&config.pricing),
            free: start::free(&config),
            observer: Arc::clone(tally) as _,
            limits: start::limits(&config),
            call_timeout: upstream.timeout(),
        };
        let service = GatewayService::start_remote(parts, upstream).map_err(StartError::Service)?;
        let serial = directory.parts().serial;
        Ok(Self { started: config.clone(), config, service, root, serial, _in_use: identity.in_use })
    }

    /// The service.
    pub(super) fn service(&self) -> &GatewayService {
        &self.service
    }

    /// The issuer's root key.
    pub(super) fn root(&self) -> RootKey {
        self.root
    }

    /// Number of the directory.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Goes over to another configuration, as far as that can change, and says what of it has to wait for the next start.
    pub(super) fn reload(&mut self, loaded: &Loaded) -> Result<Vec<&'static str>, ReloadError> {
        let wished = &loaded.config;
        if wished.pricing != self.config.pricing || wished.free != self.config.free {
            let directory = self.service.layer().directory();
            let missing =
                directory.parts().tariffs.iter().find_map(|tariff| publish::unpriced(&wished.pricing, tariff));
            if let Some(item) = missing {
                return Err(PublishError::NotYetPriced(item.to_owned()).into());
            }
            self.service.reprice(start::pricing(&wished.pricing), start::free(wished));
        }
        self.config = wished.clone();
        Ok(waits(&self.started, wished))
    }

    /// Tells of a newer directory, which the service has fetched by itself.
    pub(super) fn tick(&mut self) {
        let directory = self.service.layer().directory();
        let serial = directory.parts().serial;
        if serial == self.serial {
            return;
        }
        self.serial = serial;
        info!(serial, "the issuer has published a directory");
        let unpriced = directory.tariff(now()).and_then(|tariff| publish::unpriced(&self.config.pricing, tariff));
        if let Some(item) = unpriced {
            warn!(item, "`pricing` counts what has no price any more: who calls for it pays his whole charge");
        }
    }
}
