//! A gateway whose issuer is elsewhere.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::config::{Config, Loaded, Unlock, issuer_client};
use super::keeper::{ReloadError, waits};
use super::prices;
use super::publish;
use super::start::{self, StartError};
use super::vault::{GatewayIdentity, VaultError, exposed};
use halometer::http::cause::chain;
use halometer::http::clock::now;
use halometer::http::exchange::{RemoteLayerParts, longest_call};
use halometer::http::gateway::GatewayService;
use halometer::http::issuer_client::IssuerClient;
use halometer::http::operate::Tally;
use halometer::protocol::{Directory, GatewayId, GatewayKey, RootKey, SignedDirectory};

/// How long an issuer who does not answer at the start is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// What the issuer has shown.
struct Shown {
    issuer: IssuerClient,
    root: RootKey,
    signed: SignedDirectory,
    directory: Directory,
}

impl Shown {
    /// Asks the issuer for its directory, for so long, and looks whether this gateway can serve under it.
    async fn ask(config: &Config, (id, key): (GatewayId, GatewayKey), patience: Duration) -> Result<Self, StartError> {
        let issuer = issuer_client(config.issuer.url.as_deref().unwrap_or_default())?;
        let root = config.issuer.root_key.ok_or(StartError::NoRootKey)?.0;
        let signed = ask(&issuer, patience).await?;
        let directory = signed.verify(&root).map_err(StartError::IssuerDirectory)?;
        if directory.gateway(&id).is_none_or(|entry| entry.key != key) {
            return Err(StartError::NotNamed { id, key: hex::encode(key.to_bytes()) });
        }
        publish::check_priced(&config.pricing, &directory, now())?;
        let most = longest_call(&directory).as_secs();
        for (key, seconds) in [
            ("upstream.timeout_seconds", config.upstream.timeout_seconds),
            ("beside.hold_seconds", config.hold_seconds()),
        ] {
            let seconds = u64::from(seconds);
            if seconds > most {
                return Err(StartError::TooLong { key, seconds, most });
            }
        }
        Ok(Self { issuer, root, signed, directory })
    }
}

/// Reads a key. A passphrase is stretched for a while: not on an async thread.
async fn with_key<T: Send + 'static>(
    config: &Config,
    read: fn(&Path, &Unlock) -> Result<T, VaultError>,
) -> Result<T, StartError> {
    let (keys, unlock) = (config.issuer.keys.clone(), config.issuer.unlock.clone());
    let reading = tokio::task::spawn_blocking(move || read(&keys, &unlock)).await;
    Ok(reading.map_err(|error| StartError::File(config.issuer.keys.clone(), error.into()))??)
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
            warn!(error = chain(&trouble), "the issuer does not show its directory; it is asked again");
        }
        sleep(PAUSE).await;
    }
}

/// What is found without serving anybody.
pub(super) async fn check(loaded: &Loaded) -> Result<Vec<String>, StartError> {
    let config = &loaded.config;
    start::check_rim(config)?;
    let (id, key) = with_key(config, GatewayIdentity::look).await?;
    let Shown { directory, .. } = Shown::ask(config, (id, key), Duration::ZERO).await?;
    let origins = directory.gateway(&id).map(|entry| entry.origins.join(", ")).unwrap_or_default();
    let serial = directory.parts().serial;
    let mut found = vec![
        format!("gateway {id}, issuer {}", directory.issuer()),
        format!("root key {}", hex::encode(directory.parts().root.to_bytes())),
        format!("directory {serial} of the issuer names this gateway, as {origins}"),
    ];
    match with_key(config, GatewayIdentity::open).await {
        Err(StartError::Vault(VaultError::InUse(_))) => found.push(start::RUNS.to_owned()),
        other => drop(other?),
    }
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
    /// Whether all that is counted had a price when it was last looked.
    priced: bool,
    /// Held as long as it runs.
    _in_use: File,
}

impl RemoteKeeper {
    /// Starts the service.
    pub(super) async fn start(config: Config, tally: &Arc<Tally>) -> Result<Self, StartError> {
        let identity = with_key(&config, GatewayIdentity::open).await?;
        let public = (identity.id, identity.key.public_key());
        let Shown { issuer, root, signed, directory } = Shown::ask(&config, public, PATIENCE).await?;
        let upstream = start::upstream(&config)?;
        let parts = RemoteLayerParts::new(identity.id, identity.key, root, signed, issuer, prices::pricing(&config))
            .with_refresh(Duration::from_secs(config.issuer.refresh_seconds.into()))
            .with_free(prices::free(&config))
            .with_observer(Arc::clone(tally) as _)
            .with_limits(start::limits(&config))
            .with_call_timeout(upstream.timeout());
        let service = GatewayService::start_remote(parts, upstream).map_err(StartError::Service)?;
        let service = service
            .passing(super::start::passed(&config))
            .map_err(|error| StartError::Service(std::io::Error::other(error)))?;
        let serial = directory.parts().serial;
        Ok(Self { started: config.clone(), config, service, root, serial, priced: true, _in_use: identity.in_use })
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
            publish::check_priced(&wished.pricing, &self.service.layer().directory(), now())?;
            self.service.reprice(prices::pricing(wished), prices::free(wished));
        }
        self.config = wished.clone();
        Ok(waits(&self.started, wished))
    }

    /// Looks at the directory, which the service fetches by itself.
    pub(super) fn tick(&mut self) {
        let directory = self.service.layer().directory();
        let serial = directory.parts().serial;
        if serial != self.serial {
            self.serial = serial;
            info!(serial, "the issuer has published a directory");
        }
        let priced = publish::check_priced(&self.config.pricing, &directory, now());
        if let (Err(error), true) = (&priced, self.priced) {
            error!(%error, "calls for it are refused");
        }
        self.priced = priced.is_ok();
    }
}
