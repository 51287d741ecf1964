//! The issuer's side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ClearingAnswer, ClearingError, ClearingRequest, Envelope, EnvelopeError};
use crate::gateway::{AdmitError, Gateway, GatewayError, GatewayParts, Opened, Quotas, Screened};
use crate::issuer::{Issuer, SettleError};
use crate::lifecycle::{AdmittedSpend, AuthenticSpend, ParsedSpend, SettledSpend};
use crate::protocol::{Credits, GatewayId, OwnerId, Spend, SpendKey, Timestamp};
use crate::store::{RecordKey, RecordState, SpentSet, StoreError};

/// The issuer as remote gateways see him. Immutable, like [`Gateway`]: a newer directory makes a new one. All methods take
/// `&self`; a request that carries a spend takes a few milliseconds of one core for its proof, and all of them ask the set.
pub struct Clearing {
    issuer: Arc<Issuer>,
    gateways: BTreeMap<GatewayId, Gateway>,
}

impl core::fmt::Debug for Clearing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Clearing").field("gateways", &self.gateways.keys()).finish_non_exhaustive()
    }
}

/// What clearing takes.
pub struct ClearingParts {
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// His spent set. All of his gateways share it, the remote ones through here: a note that is spent at two of them is
    /// caught.
    pub set: Arc<dyn SpentSet>,
    /// The gateways that clear, by their ids in the directory: those that do not share the set by themselves.
    pub gateways: Vec<GatewayId>,
    /// How long a remote gateway alone may settle what was admitted for it, seconds: longer than the longest session.
    pub lease_seconds: u32,
    /// How often each of them has the issuer do what earns him nothing.
    pub quotas: Quotas,
}

impl core::fmt::Debug for ClearingParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ClearingParts").field("gateways", &self.gateways).finish_non_exhaustive()
    }
}

/// What came of an envelope.
#[derive(Debug)]
pub struct Answered {
    /// The answer, to be sent back.
    pub bytes: Vec<u8>,
    /// What it says; or why the request was not carried out, with the evidence of a double spend
    /// ([`Issuer::name`] says whose).
    pub outcome: Result<ClearingAnswer, ClearingError>,
}

/// What the set has of a spend of the gateway that asks.
enum Own {
    Open(AdmittedSpend),
    Settled(SettledSpend),
    /// Open, and somebody else's since its lease ran out.
    Elsewhere,
}

impl Clearing {
    /// Makes it, under the issuer's directory. Builds the verifying keys of all epochs that can still be spent, about 0.1 s each.
    ///
    /// # Errors
    /// [`GatewayError`], of the first gateway that it does not work for.
    pub fn new(parts: ClearingParts, now: Timestamp) -> Result<Self, GatewayError> {
        let ClearingParts { issuer, set, gateways: ids, lease_seconds, quotas } = parts;
        let mut gateways: BTreeMap<GatewayId, Gateway> = BTreeMap::new();
        for id in ids {
            let owner = owner(&id);
            let gateway = match gateways.values().next() {
                Some(first) => first.beside(id, owner, quotas, now)?,
                None => {
                    let (directory, set) = (issuer.directory().clone(), Arc::clone(&set));
                    Gateway::new(GatewayParts { id, directory, set, owner, lease_seconds, quotas }, now)?
                }
            };
            gateways.insert(id, gateway);
        }
        Ok(Self { issuer, gateways })
    }

    /// The same under a newer directory. Gateways that it does not name any more do not clear any more; what they left open is
    /// settled after its lease.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub fn adopt(&self, issuer: Arc<Issuer>, now: Timestamp) -> Result<Self, GatewayError> {
        let directory = issuer.directory();
        let mut gateways: BTreeMap<GatewayId, Gateway> = BTreeMap::new();
        for (id, gateway) in self.gateways.iter().filter(|(id, _)| directory.gateway(id).is_some()) {
            let adopted = match gateways.values().next() {
                Some(first) => gateway.adopt_from(first, now)?,
                None => gateway.adopt(directory.clone(), now)?,
            };
            gateways.insert(*id, adopted);
        }
        Ok(Self { issuer, gateways })
    }

    /// Carries out what an envelope asks for, and answers. Whatever the bytes are, there is an answer.
    pub fn answer(&self, envelope: &[u8], now: Timestamp) -> Answered {
        let outcome = self.carry_out(envelope, now);
        let answer = outcome.as_ref().map_or_else(ClearingError::answer, Clone::clone);
        Answered { bytes: answer.to_bytes(&Envelope::digest(envelope)), outcome }
    }

    fn carry_out(&self, envelope: &[u8], now: Timestamp) -> Result<ClearingAnswer, ClearingError> {
        let directory = self.issuer.directory();
        let key = |id: &GatewayId| self.gateways.get(id).and_then(|_| Some(directory.gateway(id)?.key));
        let Envelope { gateway, request, .. } = Envelope::verify(envelope, &directory.issuer(), key, now)?;
        let gateway = self.gateways.get(&gateway).ok_or(EnvelopeError::UnknownGateway(gateway))?;
        match request {
            ClearingRequest::Admit { spend } => self.admit(gateway, *spend, now),
            ClearingRequest::Meter { spend, cost } => self.meter(gateway, &spend, cost, now),
            ClearingRequest::Settle { spend, cost } => match self.own(gateway, &spend)? {
                Own::Open(spend) => self.settle(gateway, &spend, cost, now),
                Own::Settled(settled) => Ok(told(&settled)),
                Own::Elsewhere => Err(StoreError::NotOwner.into()),
            },
            ClearingRequest::Cancel { spend, cost } => self.cancel(gateway, *spend, cost, now),
            ClearingRequest::Fetch { spend } => Ok(match self.own(gateway, &spend)? {
                Own::Settled(settled) => told(&settled),
                Own::Open(_) | Own::Elsewhere => ClearingAnswer::InProgress,
            }),
        }
    }

    fn admit(&self, gateway: &Gateway, spend: Spend, now: Timestamp) -> Result<ClearingAnswer, ClearingError> {
        let spend = self.vouched(spend)?;
        match self.open(gateway, gateway.screen_vouched(spend, now)?, now)? {
            // Its owner is the gateway's id, by which the next request finds it again.
            Opened::Admitted(_) => Ok(ClearingAnswer::Admitted),
            Opened::InProgress => Ok(ClearingAnswer::InProgress),
            Opened::Settled(settled) => Ok(told(&settled)),
            Opened::Lapsed(spend) => {
                let cost = spend.lapsed_cost(gateway.directory().quantum());
                self.settle(gateway, &spend, cost, now)
            }
        }
    }

    fn meter(
        &self,
        gateway: &Gateway,
        key: &RecordKey,
        cost: Credits,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        match self.own(gateway, key)? {
            Own::Open(spend) => {
                check_cost(gateway, &spend, cost)?;
                spend.meter(gateway.set(), cost, now)?;
                Ok(ClearingAnswer::Metered)
            }
            Own::Settled(settled) => Ok(told(&settled)),
            Own::Elsewhere => Err(StoreError::NotOwner.into()),
        }
    }

    fn cancel(
        &self,
        gateway: &Gateway,
        spend: Spend,
        cost: Credits,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        let spend = self.vouched(spend)?;
        let key = spend.record_key();
        let open = match self.open(gateway, gateway.screen_vouched_cancel(spend, now)?, now)? {
            // It was not admitted, so that nothing was served for it, whatever the gateway says.
            Opened::Admitted(spend) => return self.settle(gateway, &spend.for_nothing(), Credits::ZERO, now),
            Opened::Settled(settled) => return Ok(told(&settled)),
            Opened::Lapsed(spend) => spend,
            Opened::InProgress => match self.own(gateway, &key)? {
                Own::Open(spend) => spend,
                Own::Settled(settled) => return Ok(told(&settled)),
                Own::Elsewhere => return Err(StoreError::NotOwner.into()),
            },
        };
        check_cost(gateway, &open, cost)?;
        let cost = cost.max(open.lapsed_cost(gateway.directory().quantum()));
        self.settle(gateway, &open, cost, now)
    }

    fn vouched(&self, spend: Spend) -> Result<AuthenticSpend, ClearingError> {
        let parsed = ParsedSpend::vouched(spend, self.issuer.directory());
        Ok(parsed.map_err(AdmitError::from)?)
    }

    fn open(&self, gateway: &Gateway, screened: Screened, now: Timestamp) -> Result<Opened, AdmitError> {
        match screened {
            Screened::Known(opened) => Ok(opened),
            Screened::Unknown(spend) | Screened::Conflict(spend) => gateway.admit(gateway.verify(spend)?, now),
        }
    }

    fn settle(
        &self,
        gateway: &Gateway,
        spend: &AdmittedSpend,
        cost: Credits,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        Ok(told(&self.issuer.settle(gateway.set(), spend, cost, now)?))
    }

    /// Reads a record, and renews no lease, so that a request that is refused has changed nothing.
    fn own(&self, gateway: &Gateway, key: &RecordKey) -> Result<Own, ClearingError> {
        let record = match gateway.set().find(key.epoch, &key.nullifier) {
            // To whoever asks for a spend of an epoch that never was, there is no such spend.
            Err(StoreError::PartitionMissing(_)) if self.issuer.directory().epoch(key.epoch).is_none() => None,
            found => found?.filter(|record| record.key == *key),
        };
        let record = record.ok_or(ClearingError::NoSpend)?;
        let Some(evidence) = &record.evidence else { return Err(ClearingError::Erased) };
        let spend =
            Spend::from_bytes(&evidence.spend).map_err(|_| StoreError::BadRecord("its spend cannot be read"))?;
        if spend.gateway != gateway.id() {
            return Err(ClearingError::NoSpend);
        }
        Ok(match &record.state {
            RecordState::Settled(settlement) => {
                let key = SpendKey { epoch: key.epoch, nullifier: key.nullifier, context: evidence.context };
                Own::Settled(SettledSpend::new(key, settlement.clone()))
            }
            RecordState::Open { .. } => {
                AdmittedSpend::owned(&record, gateway.owner())?.map_or(Own::Elsewhere, Own::Open)
            }
        })
    }
}

fn owner(gateway: &GatewayId) -> OwnerId {
    OwnerId::from_bytes(gateway.to_bytes())
}

fn told(settled: &SettledSpend) -> ClearingAnswer {
    ClearingAnswer::Settled(settled.settlement().clone())
}

/// What a settlement would be refused for, before anything is written.
fn check_cost(gateway: &Gateway, spend: &AdmittedSpend, cost: Credits) -> Result<(), SettleError> {
    let (cap, quantum) = (spend.cap(), gateway.directory().quantum());
    if cost > cap {
        return Err(SettleError::AboveCap { cost, cap });
    }
    if cost.is_multiple_of(quantum) { Ok(()) } else { Err(SettleError::NotQuantised { cost, quantum }) }
}
