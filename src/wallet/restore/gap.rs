//! Which accounts are asked for: devices and payments are numbered from 0 and tried up to a gap.

use std::collections::BTreeSet;

use super::found::FoundPayment;
use super::{Restore, RestoreError, RestoreQuestion};
use crate::protocol::{AccountQuery, CLOCK_TOLERANCE, DeviceId, MintFound, MintStatement, MintsFound, PaymentId};
use crate::wallet::root_secret::{NotePath, PaymentPath};

/// So many payments in a row that were never minted end a device: the number of a payment is used up when it is first asked for.
const PAYMENTS: u64 = 20;
/// So many devices in a row without a payment end the search.
pub(super) const DEVICES: u64 = 16;
/// Most payments.
const MOST: usize = 4_096;

/// How a wallet is restored.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Devices that are not found by trying: those of wallets that an earlier release made. Such a wallet says its own beside its words.
    pub devices: Vec<DeviceId>,
    /// Whether the notes are held until their epoch issues no more, as long as that leaves two days to roll them over, and not only
    /// until every spend that was sent has expired. A spend that a party has kept back can be recorded for as long, as a
    /// cancel.
    pub until_epoch_ends: bool,
}

/// What was asked of one device.
struct Scan {
    device: DeviceId,
    next: u64,
    end: u64,
}

impl Scan {
    const fn of(device: DeviceId) -> Self {
        Self { device, next: 0, end: PAYMENTS }
    }
}

/// What was asked of all of them.
pub(super) struct Scans {
    all: Vec<Scan>,
    /// How many devices of small numbers there are among them.
    small: u64,
    /// The highest of these that has a payment.
    highest: Option<u64>,
    /// Where the accounts are that are being asked for.
    asked: Vec<(usize, u64)>,
}

impl Scans {
    pub(super) fn new(options: &RestoreOptions) -> Self {
        let more: BTreeSet<_> = options.devices.iter().filter(|device| device.number().is_none()).copied().collect();
        let mut all: Vec<_> = more.into_iter().map(Scan::of).collect();
        let mut small = DEVICES;
        for device in options.devices.iter().filter_map(DeviceId::number) {
            small = small.max(device + 1);
        }
        all.extend((0..small).map(|number| Scan::of(DeviceId::from_number(number))));
        Self { all, small, highest: None, asked: Vec::new() }
    }

    /// The first device of a small number that has no payment, and no device after it has one.
    pub(super) fn free(&self) -> u64 {
        self.highest.map_or(0, |highest| highest + 1)
    }

    /// That a device has a payment of this number.
    fn found(&mut self, scan: usize, number: u64) {
        let scan = &mut self.all[scan];
        scan.end = scan.end.max(number + 1 + PAYMENTS);
        let Some(device) = scan.device.number() else { return };
        self.highest = self.highest.max(Some(device));
        let small = (device + 1 + DEVICES).min(DeviceId::DERIVABLE);
        self.all.extend((self.small..small).map(|number| Scan::of(DeviceId::from_number(number))));
        self.small = self.small.max(small);
    }
}

impl Restore {
    /// The next accounts to ask for.
    pub(super) fn ask_for_accounts(&mut self) -> Option<AccountQuery> {
        let numbers =
            self.scans.all.iter().enumerate().flat_map(|(at, scan)| (scan.next..scan.end).map(move |n| (at, n)));
        let asked: Vec<_> = numbers.take(AccountQuery::MOST).collect();
        let account = |(at, number): &(usize, u64)| self.root.account(&self.path(*at, *number)).account_id();
        let query = AccountQuery::new(asked.iter().map(account).collect())?;
        self.scans.asked = asked;
        Some(query)
    }

    fn path(&self, scan: usize, payment: u64) -> PaymentPath {
        PaymentPath { issuer: self.directory.issuer(), device: self.scans.all[scan].device, payment }
    }

    /// Takes the answer to [`RestoreQuestion::Mints`].
    ///
    /// # Errors
    /// [`RestoreError`]; nothing of the answer is taken then.
    pub fn minted(&mut self, found: MintsFound) -> Result<(), RestoreError> {
        let Some(RestoreQuestion::Mints(_)) = self.asked else { return Err(RestoreError::NotAsked) };
        if found.0.len() != self.scans.asked.len() {
            return Err(RestoreError::NotAsked);
        }
        let mut known: BTreeSet<PaymentId> = self.payments.iter().map(|known| known.payment).collect();
        let mut new = Vec::new();
        for ((scan, number), found) in self.scans.asked.iter().zip(found.0) {
            let Some(found) = found else { continue };
            let path = self.path(*scan, *number);
            self.check_mint(&path, &found)?;
            if !known.insert(found.payment) {
                return Err(RestoreError::PaymentTwice);
            }
            new.push((*scan, FoundPayment::new(path, found)));
        }
        if self.payments.len() + new.len() > MOST {
            return Err(RestoreError::TooMany(MOST));
        }
        for (scan, number) in core::mem::take(&mut self.scans.asked) {
            self.scans.all[scan].next = number + 1;
        }
        for (scan, payment) in new {
            self.scans.found(scan, payment.path.payment);
            self.payments.push(payment);
        }
        self.asked = None;
        Ok(())
    }

    /// That the issuer minted this payment for this account, and signed its lanes. Of an epoch that is gone from the directory only the
    /// seal can be checked, and its notes cannot be spent any more.
    fn check_mint(&self, path: &PaymentPath, found: &MintFound) -> Result<(), RestoreError> {
        let MintFound { payment, amounts, answer } = found;
        let (account, epoch) = (self.root.account(path).account_id(), answer.response.epoch);
        let (payment, amounts, seal) = (*payment, *amounts, answer.seal);
        MintStatement { payment, account, amounts, epoch, seal }.verify(&self.pinned)?;
        let Some(entry) = self.directory.epoch(epoch) else { return Ok(()) };
        if entry.issue.from > self.now.after(CLOCK_TOLERANCE) {
            return Err(RestoreError::WrongEpoch(epoch));
        }
        for ((lane, amount), signature) in (0..).zip(&amounts).zip(&answer.response.signatures) {
            let note = self.root.note(&NotePath { payment: *path, lane, index: 0 });
            let leaf = account.commit(&note, 0).leaf(amount.micro());
            if !entry.key.verify(&leaf, signature) {
                return Err(RestoreError::Mint(epoch));
            }
        }
        Ok(())
    }
}
