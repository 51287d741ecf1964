//! The secret keys of an operator: the issuer's root key, the keys of its epochs, the gateway's key.
//!
//! | file, in the directory of keys | what |
//! | --- | --- |
//! | `root.key` | the root key, sealed |
//! | `gateway.key` | the gateway's id and key, sealed |
//! | `epochs.key` | the keys of the epochs: [`Keystore`] |
//!
//! The root key is read when a directory is signed, and wiped afterwards. A gateway whose issuer is elsewhere has the second file only.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::config::{Config, Secret, StoreKind, Unlock};
use halometer::circuits::schnorr::{PublicKey, SigningKey};
use halometer::issuer::{EpochKeys, Keystore, KeystoreError};
use halometer::protocol::{
    Directory, EpochNumber, GatewayId, GatewayKey, GatewaySigningKey, RootKey, RootSigningKey, Timestamp,
};
use halometer::sealed::{self, Lock, LockError, MAX_SEALED, SealError, UnsealError, read_bounded, write_atomically};
use halometer::store::Pulse;

const ROOT: &[u8] = b"issuer-root";
const GATEWAY: &[u8] = b"gateway-key";
/// Longest secret in a file or variable, bytes.
const LONGEST: usize = 4_096;

/// Why keys are not at hand. The operator has to act.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum VaultError {
    /// A file cannot be read or written.
    #[error("{0} cannot be read or written: {1}")]
    File(PathBuf, #[source] io::Error),
    /// A sealed file does not open.
    #[error("{0}: {1}")]
    Open(PathBuf, #[source] UnsealError),
    /// A sealed file opens and holds something else.
    #[error("{0} holds no key")]
    Malformed(PathBuf),
    /// A file cannot be sealed.
    #[error("{0}: {1}")]
    Seal(PathBuf, #[source] SealError),
    /// What should open the keys does not.
    #[error("what opens the keys: {0}")]
    Lock(#[from] LockError),
    /// A file that holds a secret is no file of one.
    #[error("{0} does not hold one line of UTF-8 text, or is too long")]
    SecretFile(PathBuf),
    /// An environment variable that should hold a secret does not.
    #[error("the environment variable {0} is not set, empty, or no text")]
    SecretEnv(String),
    /// Another process works under the gateway's key.
    #[error("another gateway runs with {0}: one process at a time works under a gateway's id")]
    InUse(PathBuf),
    /// The keys of the epochs.
    #[error("the keys of the epochs: {0}")]
    Epochs(#[from] KeystoreError),
}

/// The keys.
pub(super) struct Vault {
    root: RootKey,
    gateway: GatewayId,
    kind: Kind,
}

enum Kind {
    Files { root: PathBuf, gateway: PathBuf, lock: Lock, epochs: Keystore },
    Memory(Box<InMemory>),
}

struct InMemory {
    root: RootSigningKey,
    gateway: GatewaySigningKey,
    epochs: BTreeMap<EpochNumber, SigningKey>,
}

impl core::fmt::Debug for Vault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Vault").field("root", &self.root).field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Vault {
    /// Draws keys and seals them in a directory, which is there.
    pub(super) fn create(keys: &Path, unlock: &Unlock) -> Result<Self, VaultError> {
        let mut rng = UnwrapErr(SysRng);
        let root = RootSigningKey::generate(&mut rng);
        let lock = lock(unlock)?;
        seal(&keys.join("root.key"), ROOT, &Zeroizing::new(root.to_bytes())[..], &lock)?;
        create_gateway(keys, &lock)?;
        let issuer = root.public_key().issuer_id();
        Keystore::create(&keys.join("epochs.key"), issuer, super::vault::lock(unlock)?, &mut rng)?;
        Self::open_files(keys, unlock)
    }

    /// Opens those that a configuration names; draws some for a store in memory.
    pub(super) fn open(config: &Config) -> Result<Self, VaultError> {
        match config.store.kind {
            StoreKind::Durable | StoreKind::Postgres => Self::open_files(&config.issuer.keys, &config.issuer.unlock),
            StoreKind::Memory => {
                let mut rng = UnwrapErr(SysRng);
                let root = RootSigningKey::generate(&mut rng);
                let gateway = GatewaySigningKey::generate(&mut rng);
                let (public, id) = (root.public_key(), GatewayId::from_bytes(rand::random()));
                let kind = Kind::Memory(Box::new(InMemory { root, gateway, epochs: BTreeMap::new() }));
                Ok(Self { root: public, gateway: id, kind })
            }
        }
    }

    fn open_files(keys: &Path, unlock: &Unlock) -> Result<Self, VaultError> {
        let lock = lock(unlock)?;
        let (root, gateway) = (keys.join("root.key"), keys.join("gateway.key"));
        let public = read_root(&root, &lock)?.public_key();
        let (id, _) = read_gateway(&gateway, &lock)?;
        let epochs = Keystore::open(&keys.join("epochs.key"), public.issuer_id(), super::vault::lock(unlock)?)?;
        Ok(Self { root: public, gateway: id, kind: Kind::Files { root, gateway, lock, epochs } })
    }

    /// The public half of the root key, which callers pin.
    pub(super) fn root(&self) -> RootKey {
        self.root
    }

    /// The gateway's id.
    pub(super) fn gateway(&self) -> GatewayId {
        self.gateway
    }

    /// The root key, to sign with and to be dropped.
    pub(super) fn root_key(&self) -> Result<RootSigningKey, VaultError> {
        match &self.kind {
            Kind::Files { root, lock, .. } => read_root(root, lock),
            Kind::Memory(keys) => Ok(RootSigningKey::from_bytes(&Zeroizing::new(keys.root.to_bytes()))),
        }
    }

    /// The gateway's key.
    pub(super) fn gateway_key(&self) -> Result<GatewaySigningKey, VaultError> {
        match &self.kind {
            Kind::Files { gateway, lock, .. } => Ok(read_gateway(gateway, lock)?.1),
            Kind::Memory(keys) => Ok(GatewaySigningKey::from_bytes(&Zeroizing::new(keys.gateway.to_bytes()))),
        }
    }

    /// The public key of an epoch: [`Keystore::add`].
    pub(super) fn add(&mut self, epoch: EpochNumber) -> Result<PublicKey, VaultError> {
        let mut rng = UnwrapErr(SysRng);
        match &mut self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.add(epoch, &mut rng)?),
            Kind::Memory(keys) => {
                Ok(keys.epochs.entry(epoch).or_insert_with(|| SigningKey::generate(&mut rng)).public_key())
            }
        }
    }

    /// The keys of all epochs, for an issuer.
    pub(super) fn epoch_keys(&self) -> Result<EpochKeys, VaultError> {
        match &self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.keys()?),
            Kind::Memory(held) => {
                let mut keys = EpochKeys::new();
                for (number, key) in &held.epochs {
                    let mut secret = key.to_bytes();
                    // Every key has the form that is read.
                    if let Some(copy) = Option::<SigningKey>::from(SigningKey::from_bytes(&secret)) {
                        keys.insert(*number, copy);
                    }
                    secret.zeroize();
                }
                Ok(keys)
            }
        }
    }

    /// The keys of all epochs, sealed, for the other replicas: [`Keystore::sealed`]. Nothing, of keys in memory.
    pub(super) fn sealed(&self) -> Result<Vec<u8>, VaultError> {
        match &self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.sealed()?),
            Kind::Memory(_) => Ok(Vec::new()),
        }
    }

    /// Takes over what another replica sealed: [`Keystore::take_over`].
    pub(super) fn take_over(&mut self, sealed: &[u8]) -> Result<(), VaultError> {
        match &mut self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.take_over(sealed, &mut UnwrapErr(SysRng))?),
            Kind::Memory(_) => Ok(()),
        }
    }

    /// Whether the keys are those of this directory: [`Keystore::check`].
    pub(super) fn check(&self, directory: &Directory, now: Timestamp) -> Result<(), VaultError> {
        match &self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.check(directory, now)?),
            Kind::Memory(_) => Ok(()),
        }
    }

    /// Forgets keys that sign nothing any more: [`Keystore::forget`].
    pub(super) fn forget(&mut self, directory: &Directory, pulse: &Pulse) -> Result<Vec<EpochNumber>, VaultError> {
        match &mut self.kind {
            Kind::Files { epochs, .. } => Ok(epochs.forget(directory, pulse, &mut UnwrapErr(SysRng))?),
            Kind::Memory(_) => Ok(Vec::new()),
        }
    }
}

/// The id and key of a gateway whose issuer is elsewhere. Nobody else works under them as long as this is there.
pub(super) struct GatewayIdentity {
    pub(super) id: GatewayId,
    pub(super) key: GatewaySigningKey,
    pub(super) in_use: File,
}

impl GatewayIdentity {
    /// Draws them and seals them in a directory, which is there.
    pub(super) fn create(keys: &Path, unlock: &Unlock) -> Result<Self, VaultError> {
        create_gateway(keys, &lock(unlock)?)?;
        Self::open(keys, unlock)
    }

    /// The gateway's identity, to look at.
    pub(super) fn look(keys: &Path, unlock: &Unlock) -> Result<(GatewayId, GatewayKey), VaultError> {
        let (id, key) = read_gateway(&keys.join("gateway.key"), &lock(unlock)?)?;
        Ok((id, key.public_key()))
    }

    /// Opens them.
    pub(super) fn open(keys: &Path, unlock: &Unlock) -> Result<Self, VaultError> {
        let (path, guard) = (keys.join("gateway.key"), keys.join("gateway.key.lock"));
        let (id, key) = read_gateway(&path, &lock(unlock)?)?;
        let failed = |error| VaultError::File(guard.clone(), error);
        let in_use = OpenOptions::new().create(true).truncate(false).write(true).open(&guard).map_err(failed)?;
        match sealed::try_lock(&in_use) {
            Ok(()) => Ok(Self { id, key, in_use }),
            Err(TryLockError::WouldBlock) => Err(VaultError::InUse(path)),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

fn create_gateway(keys: &Path, lock: &Lock) -> Result<(), VaultError> {
    let key = GatewaySigningKey::generate(&mut UnwrapErr(SysRng));
    let id = GatewayId::from_bytes(rand::random());
    let mut plain = Zeroizing::new(Vec::with_capacity(GatewayId::LENGTH + 32));
    plain.extend_from_slice(id.as_bytes());
    plain.extend_from_slice(&Zeroizing::new(key.to_bytes())[..]);
    seal(&keys.join("gateway.key"), GATEWAY, &plain, lock)
}

fn seal(path: &Path, purpose: &[u8], plain: &[u8], lock: &Lock) -> Result<(), VaultError> {
    let sealed = sealed::seal(purpose, plain, lock, &mut UnwrapErr(SysRng));
    let sealed = sealed.map_err(|error| VaultError::Seal(path.to_owned(), error))?;
    write_atomically(path, &sealed).map_err(|error| VaultError::File(path.to_owned(), error))
}

fn open(path: &Path, purpose: &[u8], lock: &Lock) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let sealed = read_bounded(path, MAX_SEALED).map_err(|error| VaultError::File(path.to_owned(), error))?;
    sealed::open(purpose, &sealed, lock).map_err(|error| VaultError::Open(path.to_owned(), error))
}

fn read_root(path: &Path, lock: &Lock) -> Result<RootSigningKey, VaultError> {
    let plain = open(path, ROOT, lock)?;
    let seed = <&[u8; 32]>::try_from(&plain[..]).map_err(|_| VaultError::Malformed(path.to_owned()))?;
    Ok(RootSigningKey::from_bytes(seed))
}

fn read_gateway(path: &Path, lock: &Lock) -> Result<(GatewayId, GatewaySigningKey), VaultError> {
    let plain = open(path, GATEWAY, lock)?;
    let malformed = || VaultError::Malformed(path.to_owned());
    let (id, seed) = plain.split_first_chunk::<16>().ok_or_else(malformed)?;
    let seed = <&[u8; 32]>::try_from(seed).map_err(|_| malformed())?;
    Ok((GatewayId::from_bytes(*id), GatewaySigningKey::from_bytes(seed)))
}

/// What opens the keys.
fn lock(unlock: &Unlock) -> Result<Lock, VaultError> {
    match unlock {
        Unlock::KeyFile(path) => Lock::key_file(path).map_err(|error| match error {
            LockError::Read(cause) => VaultError::File(path.clone(), cause),
            other => other.into(),
        }),
        Unlock::Passphrase(secret) => Ok(Lock::passphrase(&read_secret(secret)?)?),
    }
}

/// A secret that a configuration names. The end of its line is not part of it.
pub(super) fn read_secret(secret: &Secret) -> Result<Zeroizing<String>, VaultError> {
    match secret {
        Secret::Env(name) => match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(Zeroizing::new(value)),
            _ => Err(VaultError::SecretEnv(name.clone())),
        },
        Secret::File(path) => {
            let bytes = read_bounded(path, LONGEST).map_err(|error| VaultError::File(path.clone(), error))?;
            let text = core::str::from_utf8(&bytes).map_err(|_| VaultError::SecretFile(path.clone()))?;
            let line = text.strip_suffix('\n').unwrap_or(text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            match line.contains(['\n', '\r']) || line.is_empty() {
                true => Err(VaultError::SecretFile(path.clone())),
                false => Ok(Zeroizing::new(line.to_owned())),
            }
        }
    }
}

/// Files with secrets that others than their owner may read.
pub(super) fn exposed(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<&Path> = Vec::new();
    if let Some(Secret::File(path)) = config.store.postgres.as_ref().map(|postgres| &postgres.url) {
        files.push(path);
    }
    if config.store.kind != StoreKind::Memory
        && let Unlock::KeyFile(path) | Unlock::Passphrase(Secret::File(path)) = &config.issuer.unlock
    {
        files.push(path);
    }
    let others = config
        .upstream
        .api_key
        .iter()
        .chain(config.beside.iter().map(|beside| &beside.secret))
        .chain(config.issuer.payments.keys.values().flat_map(|key| &key.hmac_sha256));
    files.extend(others.filter_map(|secret| if let Secret::File(path) = secret { Some(path.as_path()) } else { None }));
    files.extend(config.tls.iter().chain(&config.issuer.tls).map(|tls| tls.key.as_path()));
    files.into_iter().filter(|path| is_exposed(path)).map(Path::to_owned).collect()
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}
