//! Making a proof ahead of the call.

use halometer_circuits::note::Nullifier;
use halometer_circuits::proof::{Proof, ProveError, ProvingKey, VerifyError};
use halometer_circuits::schnorr::PublicKey;
use halometer_circuits::spend::{SpendPublic, SpendWitness};
use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::hedged::HedgedRng;
use super::lane::Lane;
use super::memo::MemoContents;
use super::root_secret::NotePath;
use super::{Journal, JournalError, LaneId, ReadySpend, RootSecret, Wallet};
use crate::protocol::{Context, Credits, EpochNumber, GatewayId, Memo, Purpose, SessionKey, Spend, Timestamp};

/// Everything that a proof needs, taken out of the wallet: it can be carried to another thread and proved there. Holds
/// secrets: not `Clone`, not printed, wiped on drop. Thrown away, nothing is lost.
pub struct ProofJob {
    lane: LaneId,
    index: u64,
    context: Context,
    memo: Memo,
    public: SpendPublic,
    witness: SpendWitness,
    /// `v'`.
    hidden: Zeroizing<u64>,
    /// What the taking half of a transfer brings in.
    takes: Credits,
    session: SessionKey,
    epoch_key: PublicKey,
    /// What the proof is blinded from, beside fresh randomness.
    blinding: Zeroizing<[u8; 64]>,
}

impl core::fmt::Debug for ProofJob {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProofJob").field("lane", &self.lane).finish_non_exhaustive()
    }
}

/// Why no proof can be planned. Nothing has happened and no credit is at risk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The wallet has no such lane.
    #[error("there is no lane {0}")]
    UnknownLane(LaneId),
    /// The lane awaits a settlement.
    #[error("lane {0} awaits a settlement")]
    InFlight(LaneId),
    /// The lane was read from a file, and the first thing to ask is whether its note was spent meanwhile:
    /// [`Wallet::questions`](super::Wallet::questions).
    #[error("whether the note of lane {0} was spent by a copy of this wallet is not known yet")]
    Unchecked(LaneId),
    /// The lane's note was spent by a copy of this wallet; a second spend would reveal the account.
    #[error("the note of lane {0} was spent by a copy of this wallet")]
    Frozen(LaneId),
    /// The note was spent already, for some context; a second one would reveal the account.
    #[error("the note of lane {0} is pinned to a spend that was made before")]
    Pinned(LaneId),
    /// The lane's credit is fresh, and rests: [`Wallet::let_rest`].
    #[error("the credit of lane {lane} is fresh and is not used before {} (Unix time)", .until.seconds())]
    Resting {
        /// The lane.
        lane: LaneId,
        /// When it can be used.
        until: Timestamp,
    },
    /// The directory has no such gateway.
    #[error("the directory has no gateway {0}")]
    UnknownGateway(GatewayId),
    /// The charge is no class of the directory; a charge of one's own would be a fingerprint.
    #[error("{0} is no charge class of the directory")]
    UnknownClass(Credits),
    /// The lane is worth less.
    #[error("the lane is worth less than {0}")]
    Balance(Credits),
    /// The note's epoch is not spendable now.
    #[error("epoch {0} is not spendable now")]
    NotSpendable(EpochNumber),
    /// No tariff of the directory holds now: fetch the directory.
    #[error("no tariff holds now")]
    NoTariff,
    /// The context hash is zero: choose another class or gateway, or wait for the next window. Never seen.
    #[error("the context hash is zero")]
    ZeroContext,
    /// The lane has no index left.
    #[error("lane {0} is used up")]
    UsedUp(LaneId),
    /// The note's epoch still issues, or none does.
    #[error("there is nothing to roll over from epoch {0} into")]
    NothingToRoll(EpochNumber),
    /// A transfer is between two lanes.
    #[error("both ends of the transfer are lane {0}")]
    SameLane(LaneId),
    /// The amount is no denomination; an amount of one's own would be a fingerprint.
    #[error("{0} is no denomination of a transfer")]
    UnknownDenomination(Credits),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Why a job gave no proof. Plan again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The proving key is not the one of the note's epoch.
    #[error("the proving key is not the one of the note's epoch")]
    OtherEpochKey,
    /// The prover failed.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The proof came out wrong. It was thrown away.
    #[error("the proof came out wrong")]
    Faulty(#[source] VerifyError),
}

impl ProofJob {
    /// The lane whose note it spends.
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// The key of the note's epoch: the proving key to prove with is built from it.
    pub fn epoch_key(&self) -> PublicKey {
        self.epoch_key
    }

    /// Makes the proof, about 0.1 s of one core, and verifies it: a proof that came out wrong, by a fault of the hardware, would be
    /// pinned to its note for ever and refused for ever, and might tell of the witness.
    ///
    /// It is blinded from `rng` and from a secret that was derived for this context from the root secret: a source of randomness that
    /// repeats, as that of a cloned machine does, does not blind two proofs alike.
    ///
    /// # Errors
    /// [`JobError`].
    pub fn prove<R: Rng + CryptoRng>(self, key: &ProvingKey, rng: &mut R) -> Result<ReadySpend, JobError> {
        if key.verifying_key().epoch_key() != self.epoch_key {
            return Err(JobError::OtherEpochKey);
        }
        let proof = key.prove(&self.public, &self.witness, &mut HedgedRng::new(&self.blinding, rng))?;
        key.verifying_key().verify(&self.public, &proof).map_err(JobError::Faulty)?;
        Ok(self.finish(proof))
    }

    /// Skips the proof, for the model test, which makes thousands of spends.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn without_proof(self) -> ReadySpend {
        self.finish(Proof::from_bytes(&[0; Proof::LENGTH]).expect("the right length"))
    }

    fn finish(self, proof: Proof) -> ReadySpend {
        ReadySpend {
            lane: self.lane,
            index: self.index,
            x: self.public.context,
            spend: Spend::assemble(&self.context, self.memo, &self.public, proof),
            session: self.session,
            hidden: self.hidden,
            takes: self.takes,
        }
    }
}

/// A spend of a lane's frontier whose purpose is not settled yet.
struct Draft {
    lane: LaneId,
    index: u64,
    context: Context,
    memo: Memo,
    nullifier: Nullifier,
    witness: SpendWitness,
    hidden: Zeroizing<u64>,
    takes: Credits,
    session: SessionKey,
    epoch_key: PublicKey,
}

impl Draft {
    fn into_job(self, purpose: Purpose, root: &RootSecret) -> Result<ProofJob, PlanError> {
        let Self { lane, index, context, memo, witness, hidden, takes, session, epoch_key, .. } = self;
        let context = Context { purpose, ..context };
        let x = context.hash().ok_or(PlanError::ZeroContext)?;
        let charge = context.charge;
        let public = witness.public(x, charge.micro()).map_err(|_| PlanError::Balance(charge))?;
        let blinding = root.blinding(&public);
        Ok(ProofJob { lane, index, context, memo, public, witness, hidden, takes, session, epoch_key, blinding })
    }
}

impl<J: Journal> Wallet<J> {
    /// Plans a spend of a lane's frontier: for a gateway, under a charge class of the directory, with the not-after of the
    /// current window. Several may be planned for one note; only one can ever be authorised.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan(
        &self,
        lane: LaneId,
        gateway: &GatewayId,
        class: Credits,
        now: Timestamp,
    ) -> Result<ProofJob, PlanError> {
        if !self.directory.has_class(class) {
            return Err(PlanError::UnknownClass(class));
        }
        self.draft(lane, gateway, class, now)?.into_job(Purpose::Session, &self.root)
    }

    /// Plans the rollover of a lane's frontier, whose epoch issues no more, into the epoch that does. Nothing is charged.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan_rollover(&self, lane: LaneId, gateway: &GatewayId, now: Timestamp) -> Result<ProofJob, PlanError> {
        let draft = self.draft(lane, gateway, Credits::ZERO, now)?;
        if self.directory.issuing(now).is_none_or(|epoch| epoch.number == draft.context.epoch) {
            return Err(PlanError::NothingToRoll(draft.context.epoch));
        }
        draft.into_job(Purpose::Rollover, &self.root)
    }

    /// Plans a transfer of an amount from one lane to another: two jobs, the giving one first. The amount is a denomination
    /// ([`Directory::has_denomination`](crate::protocol::Directory::has_denomination)).
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan_transfer(
        &self,
        from: LaneId,
        to: LaneId,
        amount: Credits,
        gateway: &GatewayId,
        now: Timestamp,
    ) -> Result<[ProofJob; 2], PlanError> {
        if from == to {
            return Err(PlanError::SameLane(from));
        }
        if !self.directory.has_denomination(amount) {
            return Err(PlanError::UnknownDenomination(amount));
        }
        let mut give = self.draft(from, gateway, amount, now)?;
        let mut take = self.draft(to, gateway, Credits::ZERO, now)?;
        // What comes in must fit what a note can hold.
        take.takes = amount;
        let worth = take.hidden.checked_add(amount.micro());
        worth.ok_or(PlanError::Balance(amount))?;
        give.takes = Credits::ZERO;
        let names = |other: &Draft| Purpose::Transfer { nullifier: other.nullifier, change: other.context.change };
        let (gives, takes) = (names(&take), names(&give));
        Ok([give.into_job(gives, &self.root)?, take.into_job(takes, &self.root)?])
    }

    fn draft(&self, lane: LaneId, gateway: &GatewayId, charge: Credits, now: Timestamp) -> Result<Draft, PlanError> {
        let note = match self.lanes.get(&lane).ok_or(PlanError::UnknownLane(lane))? {
            Lane::Idle(note) if note.unspent => note,
            Lane::Idle(_) => return Err(PlanError::Unchecked(lane)),
            Lane::InFlight(_) => return Err(PlanError::InFlight(lane)),
            Lane::Frozen(_) => return Err(PlanError::Frozen(lane)),
        };
        if let Some(until) = self.rests_until(lane, note).filter(|until| now < *until) {
            return Err(PlanError::Resting { lane, until });
        }
        let directory = &self.directory;
        directory.gateway(gateway).ok_or(PlanError::UnknownGateway(*gateway))?;
        let epoch = directory.epoch(note.epoch).filter(|epoch| epoch.spend.contains(now));
        let epoch = epoch.ok_or(PlanError::NotSpendable(note.epoch))?;
        let tariff = directory.callers_tariff(now).ok_or(PlanError::NoTariff)?.digest();

        let place = NotePath { payment: self.payment_path(lane.payment), lane: lane.lane, index: note.index };
        let next = note.index.checked_add(1).ok_or(PlanError::UsedUp(lane))?;
        let witness = SpendWitness {
            account: self.root.account(&place.payment),
            note: self.root.note(&place),
            hidden: note.hidden,
            refund: note.refund,
            signature: note.signature.clone(),
            next_note: self.root.note(&NotePath { index: next, ..place }),
        };
        let nullifier = witness.account.nullifier(&witness.note);
        if self.journal.entry(&nullifier)?.is_some() {
            return Err(PlanError::Pinned(lane));
        }
        let hidden = Zeroizing::new(witness.change_value(charge.micro()).map_err(|_| PlanError::Balance(charge))?);
        let change = witness.change(charge.micro()).map_err(|_| PlanError::Balance(charge))?;
        let contents = MemoContents {
            device: place.payment.device,
            payment: place.payment.payment,
            lane: lane.lane,
            index: next,
            hidden: Credits::from_micro(*hidden),
        };
        let memo = self.root.seal(&directory.issuer(), &nullifier, &contents);
        let session = self.root.session(&place);
        let context = Context {
            issuer: directory.issuer(),
            epoch: epoch.number,
            entry: epoch.digest(&directory.issuer()),
            gateway: *gateway,
            purpose: Purpose::Session,
            tariff,
            session: session.public_key(),
            charge,
            change,
            not_after: directory.grid().callers_not_after(now),
            memo: memo.digest(),
        };
        let takes = Credits::ZERO;
        Ok(Draft {
            lane,
            index: note.index,
            context,
            memo,
            nullifier,
            witness,
            hidden,
            takes,
            session,
            epoch_key: epoch.key,
        })
    }

    /// The lanes that could pay this class now and have no ready spend for it: those to plan for.
    pub fn lanes_to_prove(&self, gateway: &GatewayId, class: Credits, now: Timestamp) -> Vec<LaneId> {
        let able = |id: LaneId, lane: &Lane| match lane {
            Lane::Idle(note) => {
                let enough = note.unspent && note.value() >= class.micro() && self.is_spendable(note.epoch, now);
                enough && !self.is_resting(id, note, now)
            }
            Lane::InFlight(_) | Lane::Frozen(_) => false,
        };
        let is_ready =
            |id: &LaneId| self.ready.iter().any(|ready| ready.lane == *id && self.suits(ready, gateway, class, now));
        self.lanes.iter().filter(|(id, lane)| able(**id, lane) && !is_ready(id)).map(|(id, _)| *id).collect()
    }
}
