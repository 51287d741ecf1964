//! What a remote gateway asks of the issuer.

use halometer_circuits::note::Nullifier;

use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{Credits, EpochNumber, Spend, SpendTag};
use crate::store::RecordKey;

/// A request of a remote gateway, as it is inside an [`Envelope`](super::Envelope).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClearingRequest {
    /// Admit this spend, of a session or a rollover. The gateway has checked its session signature.
    Admit {
        /// The spend.
        spend: Box<Spend>,
    },
    /// Write down what an admitted spend has cost so far: its cost if the gateway dies.
    Meter {
        /// Which spend.
        spend: RecordKey,
        /// At most the charge, a multiple of the quantum. Less than what is written down changes nothing.
        cost: Credits,
    },
    /// Settle an admitted spend.
    Settle {
        /// Which spend.
        spend: RecordKey,
        /// At most the charge, a multiple of the quantum.
        cost: Credits,
    },
    /// The caller cancels this spend, of any purpose; the gateway has checked its session signature and stopped the work. One that
    /// was not admitted is inserted and settled at 0, an open one at the cost or at what was metered, whichever is more.
    Cancel {
        /// The spend.
        spend: Box<Spend>,
        /// What was metered until the work was stopped; where nothing was measured, what was reserved.
        cost: Credits,
    },
    /// Tell the settlement of a spend.
    Fetch {
        /// Which spend.
        spend: RecordKey,
    },
}

impl ClearingRequest {
    /// Longest encoding, bytes: the cancel of half a transfer.
    pub const MAX_LENGTH: usize = 1 + 8 + Spend::TRANSFER_LENGTH;

    /// Its action's number (1), then:
    ///
    /// | number | action | bytes |
    /// | --- | --- | --- |
    /// | 1 | Admit | the [`Spend`]'s |
    /// | 2 | Meter | epoch (4), `nf` (32), tag (32), cost (8) |
    /// | 3 | Settle | epoch (4), `nf` (32), tag (32), cost (8) |
    /// | 4 | Cancel | cost (8), the [`Spend`]'s |
    /// | 5 | Fetch | epoch (4), `nf` (32), tag (32) |
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::MAX_LENGTH);
        out.push(self.number());
        match self {
            Self::Admit { spend } => out.extend_from_slice(&spend.to_bytes()),
            Self::Meter { spend, cost } | Self::Settle { spend, cost } => {
                put_key(&mut out, spend);
                out.extend_from_slice(&cost.micro().to_be_bytes());
            }
            Self::Cancel { spend, cost } => {
                out.extend_from_slice(&cost.micro().to_be_bytes());
                out.extend_from_slice(&spend.to_bytes());
            }
            Self::Fetch { spend } => put_key(&mut out, spend),
        }
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8()? {
            1 => Self::Admit { spend: Box::new(Spend::from_bytes(reader.rest())?) },
            2 => Self::Meter { spend: read_key(&mut reader)?, cost: Credits::from_micro(reader.u64()?) },
            3 => Self::Settle { spend: read_key(&mut reader)?, cost: Credits::from_micro(reader.u64()?) },
            4 => {
                let cost = Credits::from_micro(reader.u64()?);
                Self::Cancel { spend: Box::new(Spend::from_bytes(reader.rest())?), cost }
            }
            5 => Self::Fetch { spend: read_key(&mut reader)? },
            _ => return Err(DecodeError::Field("action")),
        };
        reader.finish()?;
        Ok(request)
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Admit { .. } => 1,
            Self::Meter { .. } => 2,
            Self::Settle { .. } => 3,
            Self::Cancel { .. } => 4,
            Self::Fetch { .. } => 5,
        }
    }
}

fn put_key(out: &mut Vec<u8>, key: &RecordKey) {
    out.extend_from_slice(&key.epoch.number().to_be_bytes());
    out.extend_from_slice(&key.nullifier.to_bytes());
    out.extend_from_slice(&key.tag.to_bytes());
}

fn read_key(reader: &mut Reader<'_>) -> Result<RecordKey, DecodeError> {
    Ok(RecordKey {
        epoch: EpochNumber::new(reader.u32()?),
        nullifier: reader.canonical("nullifier", Nullifier::from_bytes)?,
        tag: SpendTag::from_bytes(reader.array()?),
    })
}
