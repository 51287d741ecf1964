//! The directory: what an issuer tells everybody, the same to all.

use super::VERSION;
use super::bytes::{Digest, GatewayId, IssuerId, digest};
use super::codec::{DecodeError, Reader, put_count};
use super::credits::Credits;
use super::ed25519::RootKey;
use super::epoch::{Epoch, EpochNumber};
use super::gateway_entry::GatewayEntry;
use super::grid::Grid;
use super::tariff::Tariff;
use super::time::{CLOCK_TOLERANCE, Timestamp};

/// Limits that every gateway of an issuer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest a session may last, seconds. Shorter than the overlap of any two epochs that follow each other.
    pub session_seconds: u32,
}

/// The contents of a [`Directory`], before they are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryParts {
    /// The issuer's root key.
    pub root: RootKey,
    /// Number of this version of the directory; each later one is greater.
    pub serial: u64,
    /// When this version was made.
    pub published: Timestamp,
    /// The smallest price step, at least 1. The same in all versions.
    pub quantum: Credits,
    /// The not-after grid.
    pub grid: Grid,
    /// How long after its settlement a spend is kept as evidence, seconds.
    pub evidence_seconds: u32,
    /// Limits.
    pub limits: Limits,
    /// The charge classes: 1 to 16 multiples of the quantum, none of them 0.
    pub classes: Vec<Credits>,
    /// The tariffs, 1 to 8, with their windows.
    pub tariffs: Vec<Tariff>,
    /// The epochs, 1 to 64.
    pub epochs: Vec<Epoch>,
    /// The gateways, 1 to 256.
    pub gateways: Vec<GatewayEntry>,
}

/// The issuer's directory (protocol, section 5): keys, windows, gateways, classes, tariffs. Checked when it is made; travels
/// as a [`SignedDirectory`](super::SignedDirectory).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    parts: DirectoryParts,
    issuer: IssuerId,
    bytes: Vec<u8>,
    digest: Digest,
    /// Written by a release that knew no grid of publication.
    legacy: bool,
}

/// Version of the encoding, since directories have a grid of publication. The first one is read still, so that stores and wallets
/// that have such a directory can go on from it; none may follow another.
const DIRECTORY_VERSION: u8 = 2;

/// Why a directory is refused. Its issuer is at fault, or its deliverer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The bytes are none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The signature is not one of the pinned root key.
    #[error("the directory is not signed by the pinned root key")]
    Signature,
    /// The quantum is zero.
    #[error("the quantum is zero")]
    Quantum,
    /// Classes are missing, too many, zero, or no multiples of the quantum.
    #[error("the charge classes are not well-formed")]
    Classes,
    /// Tariffs are missing or too many.
    #[error("the tariffs are not well-formed")]
    Tariffs,
    /// Epochs are missing or too many, share a number or a key, have an empty window, or sign before or after they spend.
    #[error("epoch {0} is not well-formed")]
    Epoch(EpochNumber),
    /// Two epochs issue at one time.
    #[error("epochs {0} and {1} issue at the same time")]
    TwoIssue(EpochNumber, EpochNumber),
    /// More than three epochs are spendable at one time.
    #[error("more than three epochs are spendable when epoch {0} begins")]
    TooManySpendable(EpochNumber),
    /// The windows of two epochs that follow each other overlap by no more than the longest session.
    #[error("epoch {0} ends before a session begun in it could be settled in epoch {1}")]
    Overlap(EpochNumber, EpochNumber),
    /// Gateways are missing or too many, share an id, or have no origin.
    #[error("the gateways are not well-formed")]
    Gateways,
    /// It contradicts a directory of the same issuer that is known already. Both together are evidence against the issuer.
    #[error("the directory contradicts one of the same issuer that is known")]
    Contradiction,
    /// It is older than the one that is known.
    #[error("the directory is older than the one that is known")]
    Stale,
    /// It is not the directory of this window: it was published too long ago, or its time is yet to come. An issuer
    /// that shows it to one caller might show others another one. Ask again; if this stays, the issuer does not publish
    /// in time, or a clock is wrong.
    #[error(
        "the directory was published at {published} s since 1970, which is not the window of {now}; check the clock, or ask again"
    )]
    NotCurrent {
        /// When it says that it was published, seconds since 1970.
        published: u64,
        /// The caller's time, seconds since 1970.
        now: u64,
    },
}

impl Directory {
    const MAX_CLASSES: usize = 16;
    const MAX_TARIFFS: usize = 8;
    const MAX_EPOCHS: usize = 64;
    const MAX_GATEWAYS: usize = 256;
    const MAX_SPENDABLE: usize = 3;

    /// Sorts and checks the parts. `published` is rounded down to the grid of publication.
    ///
    /// # Errors
    /// The [`DirectoryError`] of the first rule that is broken.
    pub fn new(mut parts: DirectoryParts) -> Result<Self, DirectoryError> {
        parts.published = parts.grid.published(parts.published);
        Self::of(parts, false)
    }

    fn of(mut parts: DirectoryParts, legacy: bool) -> Result<Self, DirectoryError> {
        parts.classes.sort_unstable();
        parts.tariffs.sort_by_key(|tariff| (tariff.valid().from, tariff.valid().until, tariff.digest()));
        parts.epochs.sort_by_key(|epoch| epoch.number);
        parts.gateways.sort_by_key(|gateway| gateway.id);
        check(&parts)?;
        let issuer = parts.root.issuer_id();
        let bytes = write(&parts, legacy);
        let digest = digest(b"halometer1-direc", &[&bytes]);
        Ok(Self { parts, issuer, bytes, digest, legacy })
    }

    /// Reads the canonical bytes.
    ///
    /// # Errors
    /// [`DirectoryError::Decode`], and those of [`new`](Self::new).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DirectoryError> {
        let (parts, legacy) = read(bytes)?;
        if !legacy && parts.published != parts.grid.published(parts.published) {
            return Err(DecodeError::Field("time of publication").into());
        }
        let directory = Self::of(parts, legacy)?;
        // Lists in another order than the sorted one are another encoding of the same directory.
        if directory.bytes != bytes {
            return Err(DecodeError::Field("order of the directory's lists").into());
        }
        Ok(directory)
    }

    /// The canonical bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Digest of the canonical bytes. All gateways of an issuer show the same.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The issuer's id.
    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// The contents.
    pub fn parts(&self) -> &DirectoryParts {
        &self.parts
    }

    /// The smallest price step.
    pub fn quantum(&self) -> Credits {
        self.parts.quantum
    }

    /// The step of the grid of publication, seconds; none where a release wrote it that knew none.
    pub fn publication(&self) -> Option<u32> {
        (!self.legacy).then(|| self.parts.grid.publication())
    }

    /// The grids of not-after and publication.
    pub fn grid(&self) -> Grid {
        self.parts.grid
    }

    /// The charge classes, ascending.
    pub fn classes(&self) -> &[Credits] {
        &self.parts.classes
    }

    /// Whether the charge is one of the classes.
    pub fn has_class(&self, charge: Credits) -> bool {
        self.parts.classes.binary_search(&charge).is_ok()
    }

    /// Whether transfers may move this amount: 1, 2 or 5 times a power of ten of quanta, so that no amount is a fingerprint.
    pub fn has_denomination(&self, amount: Credits) -> bool {
        let quantum = self.parts.quantum.micro();
        let mut quanta = amount.micro() / quantum;
        while quanta > 0 && quanta.is_multiple_of(10) {
            quanta /= 10;
        }
        amount.is_multiple_of(self.parts.quantum) && matches!(quanta, 1 | 2 | 5)
    }

    /// The entry of an epoch.
    pub fn epoch(&self, number: EpochNumber) -> Option<&Epoch> {
        let found = self.parts.epochs.binary_search_by_key(&number, |epoch| epoch.number).ok()?;
        self.parts.epochs.get(found)
    }

    /// The epochs, by number.
    pub fn epochs(&self) -> &[Epoch] {
        &self.parts.epochs
    }

    /// The epoch whose key signs now.
    pub fn issuing(&self, now: Timestamp) -> Option<&Epoch> {
        self.parts.epochs.iter().find(|epoch| epoch.issue.contains(now))
    }

    /// The epochs whose notes are accepted now, at most three.
    pub fn spendable(&self, now: Timestamp) -> impl Iterator<Item = &Epoch> {
        self.parts.epochs.iter().filter(move |epoch| epoch.spend.contains(now))
    }

    /// The entry of a gateway.
    pub fn gateway(&self, id: &GatewayId) -> Option<&GatewayEntry> {
        let found = self.parts.gateways.binary_search_by_key(id, |gateway| gateway.id).ok()?;
        self.parts.gateways.get(found)
    }

    /// The tariff that holds now; where several do, the one that began last.
    pub fn tariff(&self, now: Timestamp) -> Option<&Tariff> {
        self.parts.tariffs.iter().rev().find(|tariff| tariff.valid().contains(now))
    }

    /// The tariff that a caller agrees to now: that of [`Grid::LAG`] seconds ago where there was one, as a gateway whose clock is
    /// behind does not take a new one yet.
    pub fn callers_tariff(&self, now: Timestamp) -> Option<&Tariff> {
        let before = self.tariff(now.before(Grid::LAG));
        before.filter(|tariff| now < tariff.valid().until.after(Grid::LAG)).or_else(|| self.tariff(now))
    }

    /// The tariff with this digest, when it holds now or held within the last [`Grid::GRACE`] seconds.
    pub fn accepted_tariff(&self, digest: &Digest, now: Timestamp) -> Option<&Tariff> {
        self.parts.tariffs.iter().find(|tariff| {
            let valid = tariff.valid();
            // Early by as much as the grid is: the clock may be behind.
            valid.from <= now.after(Grid::EARLY) && now < valid.until.after(Grid::GRACE) && tariff.digest() == *digest
        })
    }

    /// Whether this directory may follow `known`, of which a wallet or gateway holds a copy: the same issuer, quantum, grid of
    /// publication and epoch entries, and published in a later window. An epoch that can still be spent stays in it.
    ///
    /// Two directories of one issuer that differ are in one order by serial and by publication, and of one window there is one. Anything
    /// else is a contradiction, whichever of the two is known.
    ///
    /// # Errors
    /// [`DirectoryError::Contradiction`], [`DirectoryError::Stale`].
    pub fn check_follows(&self, known: &Self) -> Result<(), DirectoryError> {
        let (new, old) = (&self.parts, &known.parts);
        if self.digest == known.digest {
            return Ok(());
        }
        let keeps = |epoch: &Epoch| match self.epoch(epoch.number) {
            Some(entry) => entry == epoch,
            None => epoch.spend.until <= new.published,
        };
        let grids = (new.grid.publication(), old.grid.publication());
        let other_grid = !self.legacy && !known.legacy && grids.0 != grids.1;
        if new.root != old.root || new.quantum != old.quantum || new.serial == old.serial || other_grid {
            return Err(DirectoryError::Contradiction);
        }
        // One that knows no grid follows none: an issuer would have as many as it likes. It need not be a lie.
        let (later, newer) = (new.published > old.published, new.serial > old.serial);
        let ordered = known.legacy || self.legacy || (new.published != old.published && later == newer);
        if !ordered {
            return Err(DirectoryError::Contradiction);
        }
        if !newer {
            return Err(DirectoryError::Stale);
        }
        if self.legacy {
            return Err(DecodeError::Version(VERSION).into());
        }
        // A number or a key that is used again would be another epoch under an old name.
        let reused =
            |entry: &Epoch| old.epochs.iter().any(|epoch| (epoch.key == entry.key) != (epoch.number == entry.number));
        if !old.epochs.iter().all(keeps) || new.epochs.iter().any(reused) {
            return Err(DirectoryError::Contradiction);
        }
        Ok(())
    }

    /// Whether it is the directory of the window of `now`, [`CLOCK_TOLERANCE`] included: the one that every caller is shown now, or there
    /// is a contradiction. What a caller goes by already need not be; what it takes for the first time must.
    ///
    /// # Errors
    /// [`DirectoryError::NotCurrent`].
    pub fn check_current(&self, now: Timestamp) -> Result<(), DirectoryError> {
        let published = self.parts.published;
        let over = published.after(self.parts.grid.lifetime()).after(CLOCK_TOLERANCE);
        if !self.legacy && published <= now.after(CLOCK_TOLERANCE) && now < over {
            return Ok(());
        }
        Err(DirectoryError::NotCurrent { published: published.seconds(), now: now.seconds() })
    }

    /// Whether this one and another can only come from an issuer that cheats, or has lost its keys: in whatever order they are
    /// taken, one contradicts the other. Both have been verified under one root key.
    pub fn contradicts(&self, other: &Self) -> bool {
        let refused = |a: &Self, b: &Self| a.check_follows(b) == Err(DirectoryError::Contradiction);
        refused(self, other) || refused(other, self)
    }
}

fn check(parts: &DirectoryParts) -> Result<(), DirectoryError> {
    if parts.quantum.is_zero() {
        return Err(DirectoryError::Quantum);
    }
    let class = |class: &Credits| !class.is_zero() && class.is_multiple_of(parts.quantum);
    let distinct = parts.classes.windows(2).all(|pair| pair[0] < pair[1]);
    if !(1..=Directory::MAX_CLASSES).contains(&parts.classes.len()) || !parts.classes.iter().all(class) || !distinct {
        return Err(DirectoryError::Classes);
    }
    let distinct = parts.tariffs.windows(2).all(|pair| pair[0] != pair[1]);
    if !(1..=Directory::MAX_TARIFFS).contains(&parts.tariffs.len()) || !distinct {
        return Err(DirectoryError::Tariffs);
    }
    check_epochs(&parts.epochs, parts.limits)?;
    let distinct = parts.gateways.windows(2).all(|pair| pair[0].id < pair[1].id);
    let well_formed = parts.gateways.iter().all(GatewayEntry::is_well_formed);
    if !(1..=Directory::MAX_GATEWAYS).contains(&parts.gateways.len()) || !distinct || !well_formed {
        return Err(DirectoryError::Gateways);
    }
    Ok(())
}

/// One epoch issues at a time, at most three are spendable, and the windows of two that follow each other overlap by more
/// than a session, so that what was begun in the old one can be settled while the new one issues.
fn check_epochs(epochs: &[Epoch], limits: Limits) -> Result<(), DirectoryError> {
    if !(1..=Directory::MAX_EPOCHS).contains(&epochs.len()) {
        return Err(DirectoryError::Epoch(epochs.first().map_or(EpochNumber::new(0), |epoch| epoch.number)));
    }
    for (i, epoch) in epochs.iter().enumerate() {
        let inside = epoch.spend.from <= epoch.issue.from && epoch.issue.until <= epoch.spend.until;
        let repeated = epochs[..i].iter().any(|other| other.number == epoch.number || other.key == epoch.key);
        if epoch.issue.is_empty() || !inside || repeated {
            return Err(DirectoryError::Epoch(epoch.number));
        }
        if let Some(other) = epochs[..i].iter().find(|other| other.issue.overlaps(&epoch.issue)) {
            return Err(DirectoryError::TwoIssue(other.number, epoch.number));
        }
        // Windows are intervals: the most are open at once at the beginning of one of them.
        if epochs.iter().filter(|other| other.spend.contains(epoch.spend.from)).count() > Directory::MAX_SPENDABLE {
            return Err(DirectoryError::TooManySpendable(epoch.number));
        }
    }
    for pair in epochs.windows(2) {
        let (old, new) = (&pair[0], &pair[1]);
        if new.issue.from.after(u64::from(limits.session_seconds)) >= old.spend.until {
            return Err(DirectoryError::Overlap(old.number, new.number));
        }
    }
    Ok(())
}

fn write(parts: &DirectoryParts, legacy: bool) -> Vec<u8> {
    let mut out = vec![if legacy { VERSION } else { DIRECTORY_VERSION }];
    out.extend_from_slice(&parts.root.to_bytes());
    out.extend_from_slice(&parts.serial.to_be_bytes());
    out.extend_from_slice(&parts.published.seconds().to_be_bytes());
    out.extend_from_slice(&parts.quantum.micro().to_be_bytes());
    out.extend_from_slice(&parts.grid.step().to_be_bytes());
    if !legacy {
        out.extend_from_slice(&parts.grid.publication().to_be_bytes());
    }
    out.extend_from_slice(&parts.evidence_seconds.to_be_bytes());
    out.extend_from_slice(&parts.limits.session_seconds.to_be_bytes());
    put_count(&mut out, parts.classes.len());
    parts.classes.iter().for_each(|class| out.extend_from_slice(&class.micro().to_be_bytes()));
    put_count(&mut out, parts.tariffs.len());
    parts.tariffs.iter().for_each(|tariff| tariff.write(&mut out));
    put_count(&mut out, parts.epochs.len());
    parts.epochs.iter().for_each(|epoch| epoch.write(&mut out));
    put_count(&mut out, parts.gateways.len());
    parts.gateways.iter().for_each(|gateway| gateway.write(&mut out));
    out
}

/// The parts, and whether they were written without a grid of publication.
fn read(bytes: &[u8]) -> Result<(DirectoryParts, bool), DecodeError> {
    let mut reader = Reader::new(bytes);
    let legacy = match reader.u8()? {
        VERSION => true,
        DIRECTORY_VERSION => false,
        other => return Err(DecodeError::Version(other)),
    };
    let parts = DirectoryParts {
        root: RootKey::from_bytes(&reader.array()?).ok_or(DecodeError::Field("root key"))?,
        serial: reader.u64()?,
        published: Timestamp::from_seconds(reader.u64()?),
        quantum: Credits::from_micro(reader.u64()?),
        grid: read_grid(&mut reader, legacy)?,
        evidence_seconds: reader.u32()?,
        limits: Limits { session_seconds: reader.u32()? },
        classes: reader.list("classes", Directory::MAX_CLASSES, |reader| reader.u64().map(Credits::from_micro))?,
        tariffs: reader.list("tariffs", Directory::MAX_TARIFFS, Tariff::read)?,
        epochs: reader.list("epochs", Directory::MAX_EPOCHS, Epoch::read)?,
        gateways: reader.list("gateways", Directory::MAX_GATEWAYS, GatewayEntry::read)?,
    };
    reader.finish()?;
    Ok((parts, legacy))
}

fn read_grid(reader: &mut Reader<'_>, legacy: bool) -> Result<Grid, DecodeError> {
    let step = reader.u32()?;
    let grid = if legacy { Grid::new(step) } else { Grid::with_publication(step, reader.u32()?) };
    grid.ok_or(DecodeError::Field("grid"))
}
