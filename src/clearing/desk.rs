//! What callers ask the issuer itself.

use std::sync::Arc;

use crate::gateway::{AdmitError, Cancelled, FetchError, Fetched, Gateway, GatewayError, GatewayParts, Quotas, Rate};
use crate::issuer::{Issuer, SettleError};
use crate::lifecycle::{AdmittedSpend, SettledSpend};
use crate::protocol::{Credits, Fault, GatewayId, OwnerId, Problem, Request, SpendKey, Timestamp, digest};
use crate::store::{RecordState, SpentSet, StoreError};

/// Settlements and cancels at the issuer, of spends that were made for any gateway, also for one that the directory does not
/// name any more: for callers whose gateway does not answer. Immutable, like [`Gateway`]: a newer directory makes a new one. All methods take `&self`.
///
/// It never works for a spend, and never settles one that another works on: within the lease of the gateway that has it
/// open it refuses, and after the lease it settles the spend at what was metered. So no caller gets for nothing here
/// what a gateway serves.
///
/// A session signature says where it may be used. Here that is the authority of the issuer's own address, and no gateway's: what
/// a caller signs for the issuer is of no use at a gateway, and the other way round.
pub struct Desk {
    issuer: Arc<Issuer>,
    /// Looks and verifies. Its id is the directory's first and means nothing here.
    gateway: Gateway,
    lease_seconds: u32,
    quotas: Quotas,
}

impl core::fmt::Debug for Desk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Desk").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What a desk takes.
#[non_exhaustive]
pub struct DeskParts {
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// The issuer's spent set.
    pub set: Arc<dyn SpentSet>,
    /// How long what the desk itself inserts is its own alone, seconds: as a gateway's.
    pub lease_seconds: u32,
    /// How often it cancels what is in no set, over all callers and gateways.
    pub cancels: Rate,
}

impl DeskParts {
    /// With the default quota of cancellations.
    pub fn new(issuer: Arc<Issuer>, set: Arc<dyn SpentSet>, lease_seconds: u32) -> Self {
        Self { issuer, set, lease_seconds, cancels: Quotas::default().cancels }
    }

    /// The same with this [`cancels`](Self::cancels).
    #[must_use]
    pub fn with_cancels(self, cancels: Rate) -> Self {
        Self { cancels, ..self }
    }
}

impl core::fmt::Debug for DeskParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DeskParts").field("cancels", &self.cancels).finish_non_exhaustive()
    }
}

/// Why a spend was not cancelled at the desk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeskError {
    /// The spend was refused; among the reasons the double spend, with its evidence.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// Its gateway works on it, or did until it died. Ask there, or here when its lease is over.
    #[error("the gateway has this spend open: ask it, or ask here again when its lease is over")]
    Elsewhere,
    /// It was not settled. Ask again.
    #[error(transparent)]
    Settle(#[from] SettleError),
}

impl DeskError {
    /// The problem on the wire.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Admit(error) => error.problem(),
            Self::Elsewhere => Problem::WrongOwner,
            Self::Settle(error) => error.problem(),
        }
    }

    /// The party at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Admit(error) => error.fault(),
            other => other.problem().fault(),
        }
    }
}

impl Desk {
    /// Makes it, under the issuer's directory. Builds the verifying keys of all epochs that can still be spent, about 0.1 s each.
    ///
    /// # Errors
    /// [`GatewayError`], of the lease.
    pub fn new(parts: DeskParts, now: Timestamp) -> Result<Self, GatewayError> {
        let DeskParts { issuer, set, lease_seconds, cancels } = parts;
        let quotas = Quotas { cancels, ..Quotas::default() };
        let gateway = Self::looker(&issuer, set, lease_seconds, quotas, now)?;
        Ok(Self { issuer, gateway, lease_seconds, quotas })
    }

    /// The same under a newer directory.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn adopt(&self, issuer: Arc<Issuer>, now: Timestamp) -> Result<Self, GatewayError> {
        let Self { lease_seconds, quotas, .. } = *self;
        let gateway = match issuer.directory().gateway(&self.gateway.id()) {
            Some(_) => self.gateway.adopt(issuer.directory().clone(), now)?,
            None => {
                issuer.directory().check_follows(self.issuer.directory())?;
                Self::looker(&issuer, self.gateway.shared_set(), lease_seconds, quotas, now)?
            }
        };
        Ok(Self { issuer, gateway, lease_seconds, quotas })
    }

    fn looker(
        issuer: &Issuer,
        set: Arc<dyn SpentSet>,
        lease_seconds: u32,
        quotas: Quotas,
        now: Timestamp,
    ) -> Result<Gateway, GatewayError> {
        let directory = issuer.directory().clone();
        let id = directory.parts().gateways.first().map(|entry| entry.id).unwrap_or(GatewayId::from_bytes([0; 16]));
        Gateway::new(GatewayParts { id, directory, set, owner: owner(issuer), lease_seconds, quotas }, now)
    }

    /// Answers the bytes of a [`Following`](crate::protocol::Following) that asks for a settlement, as [`Gateway::fetch`] does.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&self, following: &[u8], request: &Request<'_>) -> Result<Fetched, FetchError> {
        self.gateway.fetch(following, request)
    }

    /// Takes the bytes of a [`Cancellation`](crate::protocol::Cancellation) all the way, its settlement included. A few milliseconds of one core for the proof of
    /// what is not in the set.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn cancel(&self, bytes: &[u8], request: &Request<'_>, now: Timestamp) -> Result<SettledSpend, DeskError> {
        match self.gateway.cancel_for_any(bytes, request, now)? {
            Cancelled::Settled(settled) => Ok(settled),
            Cancelled::Fresh(spend) => self.settle(&spend, Credits::ZERO, now),
            Cancelled::Lapsed(spend) => self.lapsed(&spend, now),
            // Of an earlier cancel that was not settled, or of one at this moment. The desk works for nobody, so there
            // is nothing to stop.
            Cancelled::Running(key) => self.left(&key, now),
            Cancelled::Elsewhere => Err(DeskError::Elsewhere),
        }
    }

    fn left(&self, key: &SpendKey, now: Timestamp) -> Result<SettledSpend, DeskError> {
        let record = self.gateway.set().find(key.epoch, &key.nullifier).map_err(AdmitError::from)?;
        let record = record.ok_or(StoreError::NoRecord).map_err(AdmitError::from)?;
        if let RecordState::Settled(settlement) = &record.state {
            return Ok(SettledSpend::new(*key, settlement.clone()));
        }
        match AdmittedSpend::owned(&record, self.gateway.owner()).map_err(AdmitError::from)? {
            Some(spend) => self.lapsed(&spend, now),
            None => Err(DeskError::Elsewhere),
        }
    }

    fn lapsed(&self, spend: &AdmittedSpend, now: Timestamp) -> Result<SettledSpend, DeskError> {
        self.settle(spend, spend.lapsed_cost(self.gateway.directory().quantum()), now)
    }

    fn settle(&self, spend: &AdmittedSpend, cost: Credits, now: Timestamp) -> Result<SettledSpend, DeskError> {
        Ok(self.issuer.settle(self.gateway.set(), spend, cost, now)?)
    }
}

/// Not a gateway's id, nor a process's name: what a gateway has open is never the desk's.
fn owner(issuer: &Issuer) -> OwnerId {
    let name = digest(b"halometer1-desk.", &[issuer.directory().issuer().as_bytes()]);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&name.as_bytes()[..16]);
    OwnerId::from_bytes(bytes)
}
