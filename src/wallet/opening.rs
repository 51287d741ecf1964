//! Beginning with what the journal has, and going over to newer directories.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use super::lane::{InFlight, Lane};
use super::note::Note;
use super::origin::{LaneOrigin, PaymentOrigin};
use super::payment::Payment;
use super::pursuit::Pursuit;
use super::root_secret::{NotePath, PaymentPath};
use super::{
    Dispute, DisputeKind, Journal, JournalEntry, JournalError, LaneId, PaymentEntry, RootSecret, Saved, Wallet,
};
use crate::protocol::{
    Credits, DecodeError, DeviceId, Directory, DirectoryError, LANES, MintResponse, Purpose, RootKey, SignedDirectory,
    Spend, Timestamp,
};

/// Why there is no wallet, or no newer directory. Nothing was sent and no credit is at risk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory is not the issuer's, or contradicts the one that the wallet went by.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the journal says does not hold together, or is of another root secret or device.
    #[error("the journal is damaged, or another wallet's: {0}")]
    Damaged(&'static str),
}

impl<J: Journal> Wallet<J> {
    /// A wallet: what its journal has, which for a new one is nothing. `pinned` is the issuer's root key, which you got
    /// from a place that you trust. The directory must be signed by it, and be the one that the journal has or a newer
    /// one. `device` separates the keys of devices that share a root secret: no two wallets may ever have both alike.
    ///
    /// What was in flight is pursued: [`pursuits`](Self::pursuits). Notes from the journal are not spent before it was asked
    /// whether they are unspent still: [`questions`](Self::questions).
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(
        root: RootSecret,
        device: DeviceId,
        pinned: RootKey,
        directory: &SignedDirectory,
        journal: J,
    ) -> Result<Self, OpenError> {
        let saved = journal.load()?;
        let mut wallet = Self {
            root,
            device,
            pinned,
            signed: directory.clone(),
            directory: directory.verify(&pinned)?,
            payments: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            lanes: BTreeMap::new(),
            ready: Vec::new(),
            fresh: saved.directory.is_none(),
            uncertain: BTreeSet::new(),
            quarantined_until: saved.quarantined_until,
            rest_seconds: 0,
            spending: None,
            journal,
        };
        match &saved.directory {
            Some(known) if known == directory => {}
            Some(known) => {
                let newer = core::mem::replace(&mut wallet.directory, known.verify(&pinned)?);
                wallet.directory = newer.check_follows(&wallet.directory).map(|()| newer)?;
                wallet.journal.put_directory(directory)?;
            }
            None if wallet.directory.publication().is_none() => {
                return Err(DirectoryError::Decode(DecodeError::Version(1)).into());
            }
            None => wallet.journal.put_directory(directory)?,
        }
        wallet.restore(saved)?;
        Ok(wallet)
    }

    /// [`adopt`](Self::adopt) for a directory that was fetched at `now`: one that is new to this wallet must be that of the present window,
    /// which is the same for all callers. An issuer that shows each caller another one, be it under windows of the past that it left
    /// out, is refused, or caught.
    ///
    /// # Errors
    /// [`OpenError::Directory`], [`DirectoryError::NotCurrent`] among them; the wallet goes on by what it has.
    pub fn adopt_shown(&mut self, directory: &SignedDirectory, now: Timestamp) -> Result<(), OpenError> {
        let newer = directory.verify(&self.pinned)?;
        // A contradiction is one at any time.
        if newer.digest() != self.directory.digest() && !newer.contradicts(&self.directory) {
            newer.check_current(now)?;
        }
        self.adopt(directory)
    }

    /// Goes over to a newer directory. Whatever gateway it came from: when its digest differs from what this wallet knows, it
    /// must be a newer one that leaves every epoch as it was.
    ///
    /// # Errors
    /// [`OpenError::Directory`]. After [`DirectoryError::Contradiction`] the owner should make no more calls: signed by one key,
    /// both directories prove that the issuer shows different callers different things. They are kept as a [`Dispute`], whose
    /// time is the publication of the second.
    pub fn adopt(&mut self, directory: &SignedDirectory) -> Result<(), OpenError> {
        let newer = directory.verify(&self.pinned)?;
        match newer.check_follows(&self.directory) {
            Ok(()) => {}
            Err(error) => {
                // An older one may contradict as well.
                if newer.contradicts(&self.directory) {
                    self.journal.put_dispute(&Dispute {
                        kind: DisputeKind::TwoDirectories,
                        at: newer.parts().published,
                        gateway: None,
                        spend: None,
                        content: None,
                        settlement: None,
                        receipt: None,
                        mint: None,
                        directories: vec![self.signed.clone(), directory.clone()],
                        heard: Vec::new(),
                    })?;
                    return Err(DirectoryError::Contradiction.into());
                }
                return Err(error.into());
            }
        }
        if *directory != self.signed {
            self.journal.put_directory(directory)?;
        }
        (self.directory, self.signed) = (newer, directory.clone());
        Ok(())
    }

    /// The signed directory that the wallet goes by.
    pub fn signed_directory(&self) -> &SignedDirectory {
        &self.signed
    }

    fn restore(&mut self, saved: Saved) -> Result<(), OpenError> {
        let Saved { payments, newest, frozen, .. } = saved;
        let disputes = self.journal.disputes()?;
        for payment in payments {
            let number = payment.number;
            if number == u64::MAX {
                return Err(OpenError::Damaged("the number of a payment is out of range"));
            }
            if let Some(origin) = &payment.origin {
                self.settle_down(number, origin);
            }
            if let Some(minted) = &payment.minted {
                let notes = (0..LANES).map(|lane| Note {
                    index: 0,
                    hidden: 0,
                    refund: payment.amounts[lane].micro(),
                    epoch: minted.epoch,
                    signature: minted.signatures[lane].clone(),
                    unspent: false,
                });
                let ids = (0..).map(|lane| LaneId { payment: number, lane });
                self.lanes.extend(ids.zip(notes).map(|(id, note)| (id, Lane::Idle(note))));
                if let Some(origin) = &payment.origin {
                    for (lane, begins) in (0..).zip(&origin.lanes) {
                        if let Some(begun) = begin_lane(begins, minted, lane)? {
                            self.lanes.insert(LaneId { payment: number, lane }, begun);
                        }
                    }
                }
            }
            let PaymentEntry { amounts, requested_at, minted, seal, origin, .. } = payment;
            let disputed = minted.is_none() && disputes.iter().any(|dispute| dispute.is_of_mint(&payment.payment));
            let known = Payment { number, amounts, requested_at, minted, seal, disputed, ours: false, origin };
            if self.payments.insert(payment.payment, known).is_some() {
                return Err(OpenError::Damaged("a payment is there twice"));
            }
        }
        for entry in newest {
            let mut flight = self.flight(&entry)?;
            if disputes.iter().any(|dispute| dispute.is_of_spend(&entry.spend)) {
                flight.pursuit.disputed_before();
            }
            let lane = match entry.settlement {
                None => Lane::InFlight(Box::new(flight)),
                Some(settlement) if flight.hidden.checked_add(settlement.refund.micro()).is_none() => {
                    return Err(OpenError::Damaged("a note is worth more than one can be"));
                }
                Some(settlement) => Lane::Idle(flight.note(&settlement)),
            };
            if self.lanes.insert(entry.lane, lane).is_none() {
                return Err(OpenError::Damaged("a spend is of a lane that was not minted"));
            }
        }
        for id in frozen {
            match self.lanes.remove(&id) {
                Some(Lane::Idle(note)) => self.lanes.insert(id, Lane::Frozen(note)),
                _ => return Err(OpenError::Damaged("a lane is frozen that cannot be")),
            };
        }
        Ok(())
    }

    /// Remembers whose keys a payment has.
    pub(super) fn settle_down(&mut self, number: u64, origin: &PaymentOrigin) {
        let PaymentOrigin { device, number: payment, held_until, .. } = *origin;
        let path = PaymentPath { issuer: self.issuer(), device, payment };
        self.elsewhere.insert(number, (path, held_until));
    }

    /// The spend of an entry as it was when it was pinned. Its hidden value and its place come out of its memo, which nobody
    /// but this wallet could have sealed; so an entry needs no trust.
    fn flight(&self, entry: &JournalEntry) -> Result<InFlight, OpenError> {
        let spend = Spend::from_bytes(&entry.spend).map_err(|_| OpenError::Damaged("a spend cannot be read"))?;
        let memo = self.root.open_memo(&self.issuer(), &spend.nullifier, &spend.memo);
        let memo = memo.ok_or(OpenError::Damaged("a spend's memo is not this wallet's"))?;
        let keys = self.payment_path(entry.lane.payment);
        let place = (memo.device, memo.payment, memo.lane);
        let next = entry.index.checked_add(1);
        let at_place = place == (keys.device, keys.payment, entry.lane.lane) && Some(memo.index) == next;
        let named = (spend.epoch, spend.nullifier) == (entry.key.epoch, entry.key.nullifier);
        if !at_place || !named {
            return Err(OpenError::Damaged("a spend is not where its memo says"));
        }
        let takes = match &spend.purpose {
            Purpose::Transfer { nullifier, .. } => {
                let other = self.journal.entry(nullifier)?.ok_or(OpenError::Damaged("half a transfer is missing"))?;
                Spend::from_bytes(&other.spend).map_err(|_| OpenError::Damaged("a spend cannot be read"))?.charge
            }
            _ => Credits::ZERO,
        };
        let path = NotePath { payment: keys, lane: entry.lane.lane, index: entry.index };
        Ok(InFlight {
            key: entry.key,
            session: self.root.session(&path),
            hidden: Zeroizing::new(memo.hidden.micro()),
            takes,
            next: memo.index,
            sequence: 1,
            pinned_at: entry.pinned_at,
            ours: false,
            pursuit: Pursuit::loose(),
            spend,
        })
    }

    /// Epochs of which the wallet holds notes and which end within so many seconds, with when: time to roll over.
    pub fn ending(&self, now: Timestamp, within: u64) -> Vec<(LaneId, Timestamp)> {
        let directory: &Directory = &self.directory;
        let until = |lane: &Lane| match lane {
            Lane::Idle(note) if note.value() > 0 => directory.epoch(note.epoch).map(|epoch| epoch.spend.until),
            Lane::InFlight(flight) => directory.epoch(flight.key.epoch).map(|epoch| epoch.spend.until),
            _ => None,
        };
        let ends = self.lanes.iter().filter_map(|(id, lane)| Some((*id, until(lane)?)));
        ends.filter(|(_, until)| *until <= now.after(within)).collect()
    }
}

/// A lane as its origin says it; none where it begins with the mint.
fn begin_lane(origin: &LaneOrigin, minted: &MintResponse, lane: u32) -> Result<Option<Lane>, OpenError> {
    let signature = minted.signatures.get(lane as usize).ok_or(OpenError::Damaged("a lane is out of range"))?.clone();
    let bare = Note { index: 0, hidden: 0, refund: 0, epoch: minted.epoch, signature, unspent: false };
    Ok(match origin {
        LaneOrigin::Mint => None,
        LaneOrigin::Closed => Some(Lane::Frozen(bare)),
        LaneOrigin::Change { index, hidden, settlement } => {
            if hidden.checked_add(settlement.refund).is_none() {
                return Err(OpenError::Damaged("a note is worth more than one can be"));
            }
            Some(Lane::Idle(Note {
                index: *index,
                hidden: hidden.micro(),
                refund: settlement.refund.micro(),
                epoch: settlement.epoch,
                signature: settlement.signature.clone(),
                unspent: false,
            }))
        }
    })
}
