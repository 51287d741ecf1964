//! What replicas share besides the set: the newest directory, and the keys of its epochs, sealed. The one that leads publishes them in
//! the book of replicas, and all of them, itself included, go over to what is there.

use std::time::Duration;

use super::vault::{Vault, VaultError};
use halometer::http::peers::Peers;
use halometer::protocol::{Directory, DirectoryError, RootSigningKey, SignedDirectory};
use halometer::store::{LeaseName, Publication, StoreError};

/// Of what is published.
const VERSION: u8 = 1;
/// How often a replica that starts looks for what is published, and how long in all.
const PAUSE: Duration = Duration::from_millis(500);
const TRIES: u32 = 120;

/// Why nothing is shared. All goes on as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SharedError {
    /// The book fails.
    #[error("the book of replicas: {0}")]
    Store(#[from] StoreError),
    /// Another replica leads by now.
    #[error("another replica leads by now: what it publishes counts")]
    NotLeading,
    /// Nobody published anything, and nobody leads.
    #[error("no replica publishes a directory: one must lead; look at the clocks and at the book of replicas")]
    NoLeader,
    /// The bytes are none of this version.
    #[error("what the leader published cannot be read: is it of a later version?")]
    Malformed,
    /// The directory.
    #[error("the directory that the leader published: {0}")]
    Directory(#[from] DirectoryError),
    /// The root key signs no directory.
    #[error("the root key does not sign the directory")]
    RootKey,
    /// The database was set back.
    #[error("directory {own} is known here, and the book of replicas has {shared}: the database went back")]
    SetBack {
        /// The number of the directory here.
        own: u64,
        /// The number of the one in the book.
        shared: u64,
    },
    /// The keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// The book, and how far this replica is with it.
pub(super) struct Shared {
    peers: Peers,
    /// What was taken over last.
    revision: u64,
    /// Whether it led when it was asked last.
    led: bool,
}

impl Shared {
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers, revision: 0, led: false }
    }

    /// Whether this replica leads now.
    pub(super) fn leads(&mut self) -> bool {
        let leads = self.peers.leads().is_some();
        if leads != self.led {
            match leads {
                true => tracing::info!("this replica leads: it publishes directories, and does upkeep"),
                false => tracing::info!("this replica does not lead any more"),
            }
        }
        self.led = leads;
        leads
    }

    /// Whether anything was published.
    pub(super) fn has_any(&self) -> bool {
        self.revision > 0
    }

    /// Before anybody is served: waits for what is published, or until this replica leads and has to. `own` is the directory that this
    /// machine knows. None if there is no directory anywhere.
    pub(super) fn join(&mut self, own: Option<Directory>, vault: &mut Vault) -> Result<Option<Directory>, SharedError> {
        for _ in 0..TRIES {
            if let Some(shared) = self.latest(own.as_ref(), vault)? {
                return Ok(Some(shared));
            }
            if self.has_any() || self.leads() {
                return Ok(own);
            }
            std::thread::sleep(PAUSE);
        }
        Err(SharedError::NoLeader)
    }

    /// What is published and not taken over yet, if it is newer than what is known. The keys of its epochs are taken over by this.
    pub(super) fn latest(
        &mut self,
        known: Option<&Directory>,
        vault: &mut Vault,
    ) -> Result<Option<Directory>, SharedError> {
        let Some(published) = self.peers.book().published(LeaseName::LEADER, self.revision)? else { return Ok(None) };
        let (signed, epochs) = decode(&published.bytes).ok_or(SharedError::Malformed)?;
        let signed = SignedDirectory::from_bytes(signed).map_err(DirectoryError::from)?;
        let directory = signed.verify(&vault.root())?;
        if let Some(known) = known.filter(|known| **known != directory) {
            let (own, shared) = (known.parts().serial, directory.parts().serial);
            if shared < own {
                return Err(SharedError::SetBack { own, shared });
            }
            directory.check_follows(known)?;
        }
        vault.take_over(epochs)?;
        self.revision = published.revision;
        Ok(Some(directory).filter(|directory| Some(directory) != known))
    }

    /// Publishes a directory, before anybody has seen it. It is gone over to with the next look, as by all others.
    pub(super) fn publish(
        &mut self,
        directory: &Directory,
        root: &RootSigningKey,
        vault: &Vault,
    ) -> Result<(), SharedError> {
        let lease = self.peers.leads().ok_or(SharedError::NotLeading)?;
        let signed = SignedDirectory::sign(directory, root).ok_or(SharedError::RootKey)?;
        let bytes = encode(&signed.to_bytes(), &vault.sealed()?);
        match self.peers.book().publish(&lease, self.revision + 1, &bytes)? {
            Publication::Done => Ok(()),
            _ => Err(SharedError::NotLeading),
        }
    }
}

fn encode(directory: &[u8], epochs: &[u8]) -> Vec<u8> {
    let length = u32::try_from(directory.len()).unwrap_or(u32::MAX);
    [&[VERSION][..], &length.to_be_bytes(), directory, epochs].concat()
}

fn decode(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (version, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if *version == VERSION { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::gateway::config::{Config, Loaded, Unlock};
    use crate::gateway::publish;
    use halometer::http::clock::now;
    use halometer::http::peers::PeersParts;
    use halometer::issuer::Schedule;
    use halometer::protocol::{EpochNumber, Limits, OwnerId};
    use halometer::store::{MemoryReplicaBook, ReplicaBook};

    /// The keys of one machine: those of the first one as they were at its beginning.
    fn vault(place: &Path, of: Option<&Path>) -> Vault {
        let unlock = place.join("unlock.key");
        std::fs::write(&unlock, [7; 32]).unwrap();
        let Some(of) = of else { return Vault::create(place, &Unlock::KeyFile(unlock)).unwrap() };
        for name in ["root.key", "gateway.key", "epochs.key"] {
            std::fs::copy(of.join(name), place.join(name)).unwrap();
        }
        Vault::open(&config(place, &unlock)).unwrap()
    }

    const CONFIG: &str = "origins = [\"http://a\"]\n[upstream]\nurl = \"http://b\"\n[pricing]\nkind = \"routes\"\n\
         routes = [{ route = \"* /**\", item = \"call\" }]\n[prices]\ncall = { credits = 1 }\n";

    fn config(keys: &Path, unlock: &Path) -> Config {
        let issuer = format!("[issuer]\nkeys = {keys:?}\nunlock = {{ key_file = {unlock:?} }}\n");
        let text = format!("{CONFIG}{issuer}[issuer.payments]\nkind = \"development\"");
        Loaded::parse(Path::new("gateway.toml"), &text).unwrap().config
    }

    async fn member(owner: u8, book: &Arc<MemoryReplicaBook>) -> (Peers, Shared) {
        let book = Arc::clone(book) as Arc<dyn ReplicaBook>;
        let peers = Peers::start(PeersParts::new(OwnerId::from_bytes([owner; 16]), book, format!("a:{owner}"))).await;
        let peers = peers.unwrap();
        (peers.clone(), Shared::new(peers))
    }

    #[tokio::test]
    async fn all_go_over_to_what_the_leader_published_and_no_more() {
        let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut vault_1 = vault(place.path(), None);
        let mut vault_2 = vault(other.path(), Some(place.path()));
        let book = Arc::new(MemoryReplicaBook::new());
        let ((one, mut shared_1), (_two, mut shared_2)) = (member(1, &book).await, member(2, &book).await);
        assert!(shared_1.leads() && !shared_2.leads());
        // The first directory: made by the one that leads, and waited for by the other one.
        let (config, now) = (config(place.path(), &place.path().join("unlock.key")), now());
        assert!(shared_1.join(None, &mut vault_1).unwrap().is_none() && !shared_1.has_any());
        let limits = Limits { session_seconds: config.directory.session_seconds };
        let schedule = Schedule::new(config.issuer.schedule.parts(), limits).unwrap();
        let epoch = schedule.first(vault_1.add(EpochNumber::new(1)).unwrap(), now);
        let gateway = (vault_1.gateway(), vault_1.gateway_key().unwrap().public_key());
        let first = publish::first(&config, vault_1.root(), gateway, epoch, now).unwrap();
        assert!(vault_2.check(&first, now).is_err(), "it has no key of the epoch yet");
        let root = vault_1.root_key().unwrap();
        assert!(matches!(shared_2.publish(&first, &root, &vault_2), Err(SharedError::NotLeading)));
        shared_1.publish(&first, &root, &vault_1).unwrap();
        shared_1.publish(&first, &root, &vault_1).unwrap();
        assert_eq!(shared_2.join(None, &mut vault_2).unwrap().as_ref(), Some(&first));
        vault_2.check(&first, now).unwrap();
        assert_eq!(shared_1.latest(Some(&first), &mut vault_1).unwrap(), None, "it is known");
        // The leader is replaced while it is about to publish the next one.
        let second = publish::again(&first, now.after(7_200)).unwrap();
        one.drain().await.unwrap();
        assert!(matches!(shared_1.publish(&second, &root, &vault_1), Err(SharedError::NotLeading)));
        for _ in 0..200 {
            if shared_2.leads() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let other_second = publish::again(&first, now.after(10_800)).unwrap();
        shared_2.publish(&other_second, &root, &vault_2).unwrap();
        assert_eq!(shared_1.latest(Some(&first), &mut vault_1).unwrap(), Some(other_second.clone()));
        assert_eq!(shared_2.latest(Some(&first), &mut vault_2).unwrap(), Some(other_second));
        // A machine that knows more than the book has is told so.
        let third = publish::again(&second, now.after(14_400)).unwrap();
        let (_three, mut shared_3) = member(3, &book).await;
        let refused = shared_3.join(Some(third), &mut vault_1);
        assert!(matches!(refused, Err(SharedError::SetBack { own: 3, shared: 2 })), "{refused:?}");
    }

    #[test]
    fn what_is_published_is_read_as_it_was_written() {
        for (directory, epochs) in [(&b"directory"[..], &b"keys"[..]), (b"directory", b""), (b"", b"")] {
            assert_eq!(decode(&encode(directory, epochs)), Some((directory, epochs)));
        }
        let written = encode(b"directory", b"");
        for cut in 0..written.len() {
            assert_eq!(decode(&written[..cut]), None, "{cut}");
        }
        assert_eq!(decode(&[&[2][..], &written[1..]].concat()), None);
    }
}
