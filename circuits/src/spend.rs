//! The Spend statement (protocol, section 4): its public inputs, its witness, and the native check beside the circuit.
//!
//! Public are `nf`, `x`, `y`, `charge` and `C'`; the epoch key `D` is part of the verifying key. The statement is that the
//! prover knows `k, rho, v, r, rho', s` with
//!
//! 1. `A = H_account(k, 0)`, `N = H_note(A, rho)`, `C = H_value(N, v)`, `L = H_leaf(C, r)`;
//! 2. a valid signature on `L` under `D`;
//! 3. `a = H_line(k, rho)`, `nf = H_nullifier(a, 0)`, `y = k + a*x`;
//! 4. `v' = v + r - charge` and `0 <= v' < 2^64`;
//! 5. `C' = H_value(H_note(A, rho'), v')`.

use pasta_curves::pallas;
use zeroize::Zeroize;

use crate::note::{AccountSecret, ContextHash, Leaf, NoteSecret, Nullifier, ShareY, ValueCommitment};
use crate::schnorr::{PublicKey, Signature};

/// The public inputs of a spend. Fixed in number and size; there is no way to append to them or to pad them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendPublic {
    /// `x`: hash of the context. The verifier computes it from the context that it was sent.
    pub context: ContextHash,
    /// `y = k + a*x`.
    pub share: ShareY,
    /// `nf`.
    pub nullifier: Nullifier,
    /// `C'`: commitment of the change note.
    pub change: ValueCommitment,
    /// The public charge in micro-credits.
    pub charge: u64,
}

impl SpendPublic {
    /// Number of instance cells.
    pub(crate) const COUNT: usize = 5;

    /// The instance column: `x, y, nf, C', charge` in rows 0 to 4.
    pub(crate) fn instance(&self) -> [pallas::Base; Self::COUNT] {
        [
            self.context.value(),
            self.share.value(),
            self.nullifier.value(),
            self.change.value(),
            pallas::Base::from(self.charge),
        ]
    }
}

/// What the prover knows. Wiped on drop, never printed, not `Clone`.
pub struct SpendWitness {
    /// `k`: the account of the note.
    pub account: AccountSecret,
    /// `rho`: the note's secret.
    pub note: NoteSecret,
    /// `v`: the hidden part of the note's value, micro-credits.
    pub hidden: u64,
    /// `r`: the public part, micro-credits.
    pub refund: u64,
    /// The issuer's signature on the note's leaf.
    pub signature: Signature,
    /// `rho'`: the secret of the change note.
    pub next_note: NoteSecret,
}

impl Drop for SpendWitness {
    fn drop(&mut self) {
        self.hidden.zeroize();
        self.refund.zeroize();
    }
}

impl core::fmt::Debug for SpendWitness {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SpendWitness(..)")
    }
}

impl SpendWitness {
    /// `L`: the leaf that the issuer signed.
    pub fn leaf(&self) -> Leaf {
        self.account.account_id().commit(&self.note, self.hidden).leaf(self.refund)
    }

    /// `v' = v + r - charge`: the hidden value of the change note.
    ///
    /// # Errors
    /// [`Violation::ChargeAboveBalance`], [`Violation::ChangeTooLarge`].
    pub fn change_value(&self, charge: u64) -> Result<u64, Violation> {
        let balance = u128::from(self.hidden) + u128::from(self.refund);
        let change = balance.checked_sub(u128::from(charge)).ok_or(Violation::ChargeAboveBalance)?;
        u64::try_from(change).map_err(|_| Violation::ChangeTooLarge)
    }

    /// `C'`: the commitment of the change note. It enters the context, so that it is needed before `x` is known.
    ///
    /// # Errors
    /// Those of [`change_value`](Self::change_value).
    pub fn change(&self, charge: u64) -> Result<ValueCommitment, Violation> {
        let mut value = self.change_value(charge)?;
        let change = self.account.account_id().commit(&self.next_note, value);
        value.zeroize();
        Ok(change)
    }

    /// The public inputs that make the statement true for this witness, `context` and `charge`.
    ///
    /// # Errors
    /// Those of [`change_value`](Self::change_value). The signature is not looked at.
    pub fn public(&self, context: ContextHash, charge: u64) -> Result<SpendPublic, Violation> {
        Ok(SpendPublic {
            context,
            share: self.account.share(&self.note, &context),
            nullifier: self.account.nullifier(&self.note),
            change: self.change(charge)?,
            charge,
        })
    }
}

/// The rule of the statement that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Rules 1 and 2: the signature is not one of this note's leaf under this epoch key.
    #[error("the signature is not a valid one of this note under this epoch key")]
    Signature,
    /// Rule 3: `nf` is not this note's nullifier.
    #[error("the nullifier is not this note's")]
    Nullifier,
    /// Rule 3: `y` is not on this note's line at `x`.
    #[error("the share is not on this note's line")]
    Share,
    /// Rule 4: the charge exceeds what the note is worth.
    #[error("the charge is above the note's balance")]
    ChargeAboveBalance,
    /// Rule 4: the change would need more than 64 bits.
    #[error("the change does not fit 64 bits")]
    ChangeTooLarge,
    /// Rule 5: `C'` does not commit to the change.
    #[error("the change commitment does not commit to the change")]
    Change,
}

/// Checks the statement outside the circuit, rule by rule, and names the first that is broken.
///
/// # Errors
/// The [`Violation`].
pub fn check(key: &PublicKey, public: &SpendPublic, witness: &SpendWitness) -> Result<(), Violation> {
    if !key.verify(&witness.leaf(), &witness.signature) {
        return Err(Violation::Signature);
    }
    if public.nullifier != witness.account.nullifier(&witness.note) {
        return Err(Violation::Nullifier);
    }
    if public.share != witness.account.share(&witness.note, &public.context) {
        return Err(Violation::Share);
    }
    if public.change != witness.change(public.charge)? {
        return Err(Violation::Change);
    }
    Ok(())
}

/// `2^64` as a field element, the exclusive bound of values.
#[cfg(test)]
pub(crate) fn value_bound() -> pallas::Base {
    ff::PrimeField::from_u128(1 << 64)
}
