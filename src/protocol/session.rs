//! Requests under a session key.

use halometer_circuits::note::{ContextHash, Nullifier};
use sha2::{Digest as _, Sha256};

use super::VERSION;
use super::codec::{DecodeError, Reader};
#[cfg(feature = "pipeline")]
use super::ed25519::Claim;
use super::ed25519::{SIGNATURE, SessionKey, SessionPublicKey};
use super::epoch::EpochNumber;
use super::sender::Sender;
use super::spend::Spend;
use super::spend_key::SpendKey;

/// What a session-signed request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// 1: do what the attached spend is for: open a session and serve the request, roll over, or transfer.
    Open,
    /// 2: tell the settlement.
    Fetch,
    /// 3: serve a further call of a session.
    Call,
    /// 4: close a session, and tell its settlement.
    Close,
    /// 5: cancel the attached spend.
    Cancel,
}

impl Action {
    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Fetch => 2,
            Self::Call => 3,
            Self::Close => 4,
            Self::Cancel => 5,
        }
    }

    /// The action with this number; none when this version does not carry it out.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Open),
            2 => Some(Self::Fetch),
            3 => Some(Self::Call),
            4 => Some(Self::Close),
            5 => Some(Self::Cancel),
            _ => None,
        }
    }
}

/// SHA-256 of a request's body, as in the HTTP field `Content-Digest`. The session signature covers it; the reader of
/// the body compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Digest of a body that is at hand.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Wraps a digest that was computed elsewhere, for instance while the body streamed by.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// What a session signature binds a spend to: one request, to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    authority: &'a str,
    method: &'a str,
    target: &'a str,
    content: ContentDigest,
    sender: Sender,
}

/// A part of a request is too long to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request's {0} is longer than 65,535 bytes")]
pub struct RequestError(&'static str);

impl<'a> Request<'a> {
    /// A request: `authority` as in HTTP, lower case, with the port where it is not the scheme's default
    /// (`api.example.org`, `127.0.0.1:8080`); `method` (`POST`); `target`, the path with its query
    /// (`/v1/chat/completions`); the digest of its body.
    ///
    /// # Errors
    /// [`RequestError`] when one of them is longer than 65,535 bytes.
    pub fn new(
        authority: &'a str,
        method: &'a str,
        target: &'a str,
        content: ContentDigest,
    ) -> Result<Self, RequestError> {
        for (name, part) in [("authority", authority), ("method", method), ("target", target)] {
            if part.len() > usize::from(u16::MAX) {
                return Err(RequestError(name));
            }
        }
        Ok(Self { authority, method, target, content, sender: Sender::UNKNOWN })
    }

    /// The same, with where it came from. That is nothing that is signed: limits count by it.
    #[must_use]
    pub const fn sent_by(self, sender: Sender) -> Self {
        Self { sender, ..self }
    }

    /// Where it came from.
    pub const fn sender(&self) -> Sender {
        self.sender
    }

    /// Its authority.
    pub const fn authority(&self) -> &'a str {
        self.authority
    }

    /// Its method.
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// Its path with its query.
    pub const fn target(&self) -> &'a str {
        self.target
    }

    /// The digest of its body.
    pub const fn content(&self) -> ContentDigest {
        self.content
    }

    fn message(&self, nullifier: &Nullifier, x: &ContextHash, action: Action, sequence: u64) -> Vec<u8> {
        let mut out = b"halometer/1 session\0".to_vec();
        out.push(VERSION);
        out.extend_from_slice(&nullifier.to_bytes());
        out.extend_from_slice(&x.to_bytes());
        out.push(action.number());
        for part in [self.authority, self.method, self.target] {
            let length = u16::try_from(part.len()).expect("checked when the request was made");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(&self.content.0);
        out.extend_from_slice(&sequence.to_be_bytes());
        out
    }
}

/// The session signature of one request (protocol, section 5): over version, `nf`, `x`, action, authority, method, target,
/// content digest and sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Authorisation {
    /// What is asked for.
    pub action: Action,
    /// Number of the request within the session; the opening one is 0.
    pub sequence: u64,
    signature: [u8; SIGNATURE],
}

impl core::fmt::Debug for Authorisation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { action, sequence, .. } = self;
        f.debug_struct("Authorisation").field("action", action).field("sequence", sequence).finish_non_exhaustive()
    }
}

impl Authorisation {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 8 + SIGNATURE;

    /// Signs a request.
    pub fn sign(
        key: &SessionKey,
        nullifier: &Nullifier,
        x: &ContextHash,
        action: Action,
        sequence: u64,
        request: &Request<'_>,
    ) -> Self {
        Self { action, sequence, signature: key.sign(&request.message(nullifier, x, action, sequence)) }
    }

    /// Whether it is the signature of this request under this session key.
    pub fn verify(
        &self,
        key: &SessionPublicKey,
        nullifier: &Nullifier,
        x: &ContextHash,
        request: &Request<'_>,
    ) -> bool {
        key.verify(&request.message(nullifier, x, self.action, self.sequence), &self.signature)
    }

    /// What [`verify`](Self::verify) checks, to be checked with others.
    #[cfg(feature = "pipeline")]
    pub(crate) fn claim(
        &self,
        key: &SessionPublicKey,
        nullifier: &Nullifier,
        x: &ContextHash,
        request: &Request<'_>,
    ) -> Claim {
        let message = request.message(nullifier, x, self.action, self.sequence);
        Claim { key: *key, message, signature: self.signature }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.action.number());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.signature);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            action: Action::from_number(reader.u8()?).ok_or(DecodeError::Field("action"))?,
            sequence: reader.u64()?,
            signature: reader.array()?,
        })
    }
}

/// The credential of an opening request: the spend and the session signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The spend.
    pub spend: Spend,
    /// The signature of the request it came with.
    pub authorisation: Authorisation,
}

impl Opening {
    /// Length in bytes. At most 4,200, so that twice base64 fits one header line of 8 KiB (protocol, section 9).
    pub const LENGTH: usize = Spend::LENGTH + Authorisation::LENGTH;

    /// The spend's bytes, then action (1), sequence (8) and signature (64).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.spend.to_bytes();
        self.authorisation.write(&mut out);
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`], as for [`Spend::from_bytes`]; also for half a transfer, another action than to open, or a sequence that
    /// is not 0.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Spend::version(bytes)?;
        Reader::exact(bytes, Self::LENGTH)?;
        Self::read(bytes, Action::Open)
    }

    /// Reads a spend of any purpose, signed for this action.
    fn read(bytes: &[u8], action: Action) -> Result<Self, DecodeError> {
        let length = Spend::length(Spend::purpose_number(bytes)?)?;
        let mut reader = Reader::exact(bytes, length + Authorisation::LENGTH)?;
        let spend = Spend::from_bytes(reader.take(length)?)?;
        let authorisation = Authorisation::read(&mut reader)?;
        reader.finish()?;
        if authorisation.action != action {
            return Err(DecodeError::Field("action"));
        }
        if authorisation.sequence != 0 {
            return Err(DecodeError::Field("sequence"));
        }
        Ok(Self { spend, authorisation })
    }
}

/// The credential that cancels a spend: it carries the whole spend (protocol, section 5, "Cancel"), whatever its purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// The spend.
    pub spend: Spend,
    /// The signature of the request that cancels it.
    pub authorisation: Authorisation,
}

impl Cancellation {
    /// The spend's bytes, then action (1; 5), sequence (8) and signature (64).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.spend.to_bytes();
        self.authorisation.write(&mut out);
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Opening { spend, authorisation } = Opening::read(bytes, Action::Cancel)?;
        Ok(Self { spend, authorisation })
    }
}

/// Two spends in one transaction, each signed under its own session key: credit moves from the lane of the first to that of
/// the second (protocol, section 5, "Transfer").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The spend that gives, then the spend that takes.
    pub halves: [Opening; 2],
}

impl Transfer {
    /// Length in bytes.
    pub const LENGTH: usize = 2 * (Spend::TRANSFER_LENGTH + Authorisation::LENGTH);

    /// The giving half, then the taking one, each as an [`Opening`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.halves.iter().flat_map(Opening::to_bytes).collect()
    }

    /// Reads the encoding. That the halves belong together is checked where they are verified.
    ///
    /// # Errors
    /// [`DecodeError`], also for spends that are no halves of a transfer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        let mut half = || Opening::read(reader.take(Self::LENGTH / 2)?, Action::Open);
        Ok(Self { halves: [half()?, half()?] })
    }
}

const _: () = assert!(Opening::LENGTH <= 4_200);

/// The credential of a request that follows in a session: it names the spend, and does not carry it again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Following {
    /// The spent epoch, whose partition holds the record.
    pub epoch: EpochNumber,
    /// `nf`.
    pub nullifier: Nullifier,
    /// `x`.
    pub context: ContextHash,
    /// The session key, which the set does not keep.
    pub session: SessionPublicKey,
    /// The signature of the request.
    pub authorisation: Authorisation,
}

impl core::fmt::Debug for Following {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { epoch, authorisation, .. } = self;
        f.debug_struct("Following").field("epoch", epoch).field("authorisation", authorisation).finish_non_exhaustive()
    }
}

impl Following {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 4 + 32 + 32 + 32 + Authorisation::LENGTH;

    /// Version (1), epoch (4), `nf` (32), `x` (32), session key (32), action (1), sequence (8), signature (64).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.epoch.number().to_be_bytes());
        out.extend_from_slice(&self.nullifier.to_bytes());
        out.extend_from_slice(&self.context.to_bytes());
        out.extend_from_slice(&self.session.to_bytes());
        self.authorisation.write(&mut out);
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`], also for an action that carries the whole spend: to open a session, to cancel.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let following = Self {
            epoch: EpochNumber::new(reader.u32()?),
            nullifier: reader.canonical("nullifier", Nullifier::from_bytes)?,
            context: reader.canonical("context hash", ContextHash::from_bytes)?,
            session: SessionPublicKey::from_bytes(&reader.array()?).ok_or(DecodeError::Field("session key"))?,
            authorisation: Authorisation::read(&mut reader)?,
        };
        reader.finish()?;
        if matches!(following.authorisation.action, Action::Open | Action::Cancel) {
            return Err(DecodeError::Field("action"));
        }
        Ok(following)
    }

    /// Signs a request that follows in the session of a spend.
    pub fn sign(key: &SessionKey, spend: &SpendKey, action: Action, sequence: u64, request: &Request<'_>) -> Self {
        let SpendKey { epoch, nullifier, context } = *spend;
        let authorisation = Authorisation::sign(key, &nullifier, &context, action, sequence, request);
        Self { epoch, nullifier, context, session: key.public_key(), authorisation }
    }

    /// Whether it is signed, for this request, by the session key that it names. Whether that is the spend's, only a
    /// party that knows the spend can say.
    pub fn verify(&self, request: &Request<'_>) -> bool {
        self.authorisation.verify(&self.session, &self.nullifier, &self.context, request)
    }

    /// Names the spend.
    pub fn key(&self) -> SpendKey {
        SpendKey { epoch: self.epoch, nullifier: self.nullifier, context: self.context }
    }
}
