//! Carrying out what remote gateways ask for.

use std::collections::BTreeMap;

use halometer_circuits::note::ContextHash;
use rand_core::{CryptoRng, Rng};

use super::issuer::Clearing;
use super::{ClearingAnswer, ClearingError, ClearingRequest, Envelope, EnvelopeError};
use crate::gateway::{AdmitError, Gateway, Opened, Screened};
use crate::issuer::SettleError;
use crate::lifecycle::{
    AdmittedSpend, AuthenticSpend, ParsedSpend, SettledSpend, VerifiedSpend, VerifyError, verify_batch,
};
use crate::protocol::{Credits, Digest, GatewayId, Spend, SpendKey, Timestamp};
use crate::store::{RecordKey, RecordState, StoreError};

/// What came of an envelope.
#[derive(Debug)]
pub struct Answered {
    /// The answer, to be sent back.
    pub bytes: Vec<u8>,
    /// What it says; or why the request was not carried out, with the evidence of a double spend
    /// ([`Issuer::name`](crate::issuer::Issuer::name) says whose).
    pub outcome: Result<ClearingAnswer, ClearingError>,
}

/// What the cheap part of an envelope's way comes to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Taken {
    /// It is answered.
    Answered(Answered),
    /// The proof of its spend must be verified: [`Clearing::finish`].
    Waiting(Waiting),
}

/// A genuine request of a gateway whose spend must be verified, and then admitted or cancelled. Nothing was done for it
/// yet.
pub struct Waiting {
    asked: Asked,
    spend: Box<AuthenticSpend>,
}

/// What to do with a spend whose proof holds.
struct Asked {
    envelope: Digest,
    gateway: GatewayId,
    key: RecordKey,
    context: ContextHash,
    /// Of a cancel: what the gateway metered.
    cancel: Option<Credits>,
}

impl core::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Waiting").field("gateway", &self.asked.gateway).finish_non_exhaustive()
    }
}

/// How a request begins.
enum Begun {
    Done(ClearingAnswer),
    Waiting(Waiting),
}

/// What the set has of a spend of the gateway that asks.
enum Own {
    Open(AdmittedSpend),
    Settled(SettledSpend),
    /// Open, and somebody else's since its lease ran out.
    Elsewhere,
}

impl Clearing {
    /// Carries out what an envelope asks for, and answers. Whatever the bytes are, there is an answer.
    pub fn answer(&self, envelope: &[u8], now: Timestamp) -> Answered {
        let Waiting { asked, spend } = match self.take(envelope, now) {
            Taken::Answered(answered) => return answered,
            Taken::Waiting(waiting) => waiting,
        };
        let outcome = self.gateway(&asked.gateway).and_then(|gateway| {
            let spend = gateway.verify(*spend).map_err(AdmitError::from)?;
            self.conclude(gateway, &asked, gateway.admit(spend, now)?, now)
        });
        answered(asked.envelope, outcome)
    }

    /// The part of an envelope's way that takes no proof: its sender, what it asks for, what the set has of it. What
    /// needs no proof is carried out here. A sender that is no gateway costs one signature.
    pub fn take(&self, envelope: &[u8], now: Timestamp) -> Taken {
        let digest = Envelope::digest(envelope);
        match self.begin(envelope, digest, now) {
            Ok(Begun::Waiting(waiting)) => Taken::Waiting(waiting),
            Ok(Begun::Done(answer)) => Taken::Answered(answered(digest, Ok(answer))),
            Err(error) => Taken::Answered(answered(digest, Err(error))),
        }
    }

    /// Verifies the proofs of many requests at once, and carries the requests out, admissions in one commit for each gateway; one
    /// answer each, in order. A bad proof costs its neighbours nothing but time.
    pub fn finish<R: Rng + CryptoRng>(&self, requests: Vec<Waiting>, now: Timestamp, rng: &mut R) -> Vec<Answered> {
        let mut keyed = Vec::with_capacity(requests.len());
        let mut asked = Vec::with_capacity(requests.len());
        for Waiting { asked: request, spend } in requests {
            let gateway = self.gateway(&request.gateway);
            let key = gateway.and_then(|gateway| {
                let key = gateway.verifying_key(spend.key().epoch);
                key.ok_or_else(|| AdmitError::from(VerifyError::OtherEpochKey).into())
            });
            let refused = match key {
                Ok(key) => {
                    keyed.push((*spend, key));
                    None
                }
                Err(error) => Some(error),
            };
            asked.push((request, refused));
        }
        let mut verdicts = verify_batch(keyed, rng).into_iter();

        let mut outcomes: Vec<Option<Result<ClearingAnswer, ClearingError>>> = Vec::with_capacity(asked.len());
        let mut good: BTreeMap<GatewayId, (Vec<usize>, Vec<VerifiedSpend>)> = BTreeMap::new();
        for (place, (request, refused)) in asked.iter_mut().enumerate() {
            let verified = match refused.take() {
                Some(error) => Err(error),
                // A verdict that is missing is not a good one.
                None => {
                    let verdict = verdicts.next().unwrap_or(Err(VerifyError::OtherEpochKey));
                    verdict.map_err(|error| AdmitError::from(error).into())
                }
            };
            outcomes.push(match verified {
                Ok(spend) => {
                    let (places, spends) = good.entry(request.gateway).or_default();
                    places.push(place);
                    spends.push(spend);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        for (id, (places, spends)) in good {
            let Some(gateway) = self.gateways.get(&id) else { continue };
            for (place, opened) in places.into_iter().zip(gateway.admit_all(spends, now)) {
                let concluded = opened
                    .map_err(ClearingError::from)
                    .and_then(|opened| self.conclude(gateway, &asked[place].0, opened, now));
                outcomes[place] = Some(concluded);
            }
        }
        let missing = || Err(StoreError::Failed("the store gave no answer".into()).into());
        let answer = |((request, _), outcome): ((Asked, _), Option<_>)| {
            answered(request.envelope, outcome.unwrap_or_else(missing))
        };
        asked.into_iter().zip(outcomes).map(answer).collect()
    }

    fn begin(&self, envelope: &[u8], digest: Digest, now: Timestamp) -> Result<Begun, ClearingError> {
        let directory = self.issuer.directory();
        let key = |id: &GatewayId| self.gateways.get(id).and_then(|_| Some(directory.gateway(id)?.key));
        let Envelope { gateway: id, request, .. } = Envelope::verify(envelope, &directory.issuer(), key, now)?;
        let gateway = self.gateway(&id)?;
        let (spend, cancel) = match request {
            ClearingRequest::Admit { spend } => (*spend, None),
            ClearingRequest::Cancel { spend, cost } => (*spend, Some(cost)),
            ClearingRequest::Meter { spend, cost } => return self.meter(gateway, &spend, cost, now).map(Begun::Done),
            ClearingRequest::Settle { spend, cost } => {
                return match self.own(gateway, &spend, None)? {
                    Own::Open(spend) => self.settle(gateway, &spend, cost, now),
                    Own::Settled(settled) => Ok(told(&settled)),
                    Own::Elsewhere => Err(StoreError::NotOwner.into()),
                }
                .map(Begun::Done);
            }
            ClearingRequest::Fetch { spend } => {
                return Ok(Begun::Done(match self.own(gateway, &spend, None)? {
                    Own::Settled(settled) => told(&settled),
                    Own::Open(_) | Own::Elsewhere => ClearingAnswer::InProgress,
                }));
            }
        };
        let spend = ParsedSpend::vouched(spend, directory).map_err(AdmitError::from)?;
        let (key, context) = (spend.record_key(), spend.key().context);
        let asked = Asked { envelope: digest, gateway: id, key, context, cancel };
        let screened = match cancel {
            None => gateway.screen_vouched(spend, now)?,
            Some(_) => gateway.screen_vouched_cancel(spend, now)?,
        };
        match screened {
            Screened::Known(opened) => self.conclude(gateway, &asked, opened, now).map(Begun::Done),
            Screened::Unknown(spend) | Screened::Conflict(spend) => {
                Ok(Begun::Waiting(Waiting { asked, spend: Box::new(spend) }))
            }
        }
    }

    fn gateway(&self, id: &GatewayId) -> Result<&Gateway, ClearingError> {
        self.gateways.get(id).ok_or_else(|| EnvelopeError::UnknownGateway(*id).into())
    }

    /// What it means for a request that its spend was found or admitted like this.
    fn conclude(
        &self,
        gateway: &Gateway,
        asked: &Asked,
        opened: Opened,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        match asked.cancel {
            None => self.admitted(gateway, opened, now),
            Some(cost) => self.cancelled(gateway, asked, cost, opened, now),
        }
    }

    fn admitted(&self, gateway: &Gateway, opened: Opened, now: Timestamp) -> Result<ClearingAnswer, ClearingError> {
        match opened {
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

    fn cancelled(
        &self,
        gateway: &Gateway,
        asked: &Asked,
        cost: Credits,
        opened: Opened,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        let open = match opened {
            // It was not admitted, so that nothing was served for it, whatever the gateway says.
            Opened::Admitted(spend) => return self.settle(gateway, &spend.for_nothing(), Credits::ZERO, now),
            Opened::Settled(settled) => return Ok(told(&settled)),
            Opened::Lapsed(spend) => spend,
            Opened::InProgress => match self.own(gateway, &asked.key, Some(&asked.context))? {
                Own::Open(spend) => spend,
                Own::Settled(settled) => return Ok(told(&settled)),
                Own::Elsewhere => return Err(StoreError::NotOwner.into()),
            },
        };
        check_cost(gateway, &open, cost)?;
        let cost = cost.max(open.lapsed_cost(gateway.directory().quantum()));
        self.settle(gateway, &open, cost, now)
    }

    fn meter(
        &self,
        gateway: &Gateway,
        key: &RecordKey,
        cost: Credits,
        now: Timestamp,
    ) -> Result<ClearingAnswer, ClearingError> {
        match self.own(gateway, key, None)? {
            Own::Open(spend) => {
                check_cost(gateway, &spend, cost)?;
                spend.meter(gateway.set(), cost, now)?;
                Ok(ClearingAnswer::Metered)
            }
            Own::Settled(settled) => Ok(told(&settled)),
            Own::Elsewhere => Err(StoreError::NotOwner.into()),
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

    /// Reads a record, and renews no lease, so that a request that is refused has changed nothing. Where the request has the whole
    /// spend, its context is compared too.
    fn own(&self, gateway: &Gateway, key: &RecordKey, context: Option<&ContextHash>) -> Result<Own, ClearingError> {
        let record = match gateway.set().find(key.epoch, &key.nullifier) {
            // A spend of an epoch that never was is answered as one that does not exist.
            Err(StoreError::PartitionMissing(_)) if self.issuer.directory().epoch(key.epoch).is_none() => None,
            found => found?.filter(|record| match context {
                Some(context) => record.is_of(key, context),
                None => record.key == *key,
            }),
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

fn answered(envelope: Digest, outcome: Result<ClearingAnswer, ClearingError>) -> Answered {
    let answer = outcome.as_ref().map_or_else(ClearingError::answer, Clone::clone);
    Answered { bytes: answer.to_bytes(&envelope), outcome }
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
