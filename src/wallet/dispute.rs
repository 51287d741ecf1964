//! Evidence against a gateway or an issuer.

use halometer_circuits::note::Nullifier;
use serde::{Deserialize, Serialize};

use super::receipt::fair_cost;
use crate::protocol::{
    ContentDigest, Directory, EpochNumber, GatewayId, MintStatement, PaymentId, Prefix, Receipt, ReceiptSubject,
    RootKey, Settlement, SignedDirectory, Spend, SpendKey, Timestamp,
};

/// What a wallet has against a gateway or an issuer, with what shows it (protocol, section 5). It names no account and holds no
/// secret; but it holds a nullifier, by which the gateway knows the call again, so show it only to parties that may
/// know of that one call.
#[derive(Clone, PartialEq, Eq)]
pub struct Dispute {
    /// What is claimed.
    pub kind: DisputeKind,
    /// When.
    pub at: Timestamp,
    /// The gateway, where it is about one.
    pub gateway: Option<GatewayId>,
    /// The bytes of the [`Spend`], where it is about one.
    pub spend: Option<Vec<u8>>,
    /// Digest of the body of the request that was paid for.
    pub content: Option<ContentDigest>,
    /// The settlement that was shown.
    pub settlement: Option<Settlement>,
    /// The gateway's signed receipt.
    pub receipt: Option<Vec<u8>>,
    /// The issuer's signed statement of a mint, where it is about one.
    pub mint: Option<MintStatement>,
    /// The directory that the wallet went by; where directories contradict each other, both.
    pub directories: Vec<SignedDirectory>,
    /// What was asked and answered.
    pub heard: Vec<HeardNote>,
}

impl core::fmt::Debug for Dispute {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dispute").field("kind", &self.kind).field("at", &self.at).finish_non_exhaustive()
    }
}

/// What a dispute is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DisputeKind {
    /// The receipt's cost is above what the tariff says for its usage. The gateway's signature shows it.
    Overcharged,
    /// The receipt's cost is not what was settled. The gateway's signature shows the one; the issuer's shows what came back, but not
    /// of which spend: a settlement signs a change note, and a caller that makes two spends with one change note gets
    /// two of them. A judge asks the issuer what the spend was settled at.
    Contradicted,
    /// Two directories of the issuer's contradict each other. Its signatures show it.
    TwoDirectories,
    /// A settlement or a mint is signed under an epoch that did not issue at any time between the request and the answer: it would
    /// mark the caller at each step, or void the credit. The issuer's signature is genuine; when it was made only the wallet's word
    /// says, and the issuer's books: both settlement and mint are write-once.
    WrongEpoch,
    /// What was given as the settlement is none. Only the word of the wallet shows which party gave it.
    BadSettlement,
    /// The gateway says that the note was spent otherwise, and this wallet made one spend of it. Either a copy of the wallet runs,
    /// or the gateway lies: it can show the other spend, or not.
    Denied,
    /// The gateway gives neither settlement nor cancel. A judge can send the spend to the issuer itself.
    Withheld,
    /// The gateway's set lacks a spend that it settled: it was put back, or lost records, or its answer lied. Spent notes can be spent
    /// again there. The receipt shows that the gateway took the spend; that the set lacks it a judge sees by asking, too:
    /// [`Dispute::verify_lost`].
    Lost,
}

impl DisputeKind {
    /// What is claimed, in words.
    pub const fn claim(self) -> &'static str {
        match self {
            Self::Overcharged => "the gateway charged more than its tariff says for what it metered",
            Self::Contradicted => "the gateway's receipt names another cost than was settled",
            Self::TwoDirectories => "the issuer signed two directories that contradict each other",
            Self::WrongEpoch => "the issuer signed under an epoch that did not issue at that time",
            Self::BadSettlement => "what was given as a settlement is none",
            Self::Denied => "the gateway says that a note was spent otherwise which was spent once",
            Self::Withheld => "the gateway gives neither settlement nor cancel",
            Self::Lost => "the gateway's set lacks a spend that it settled",
        }
    }

    /// Whether the evidence shows it to anyone, without believing the wallet.
    pub const fn is_shown(self) -> bool {
        matches!(self, Self::Overcharged | Self::TwoDirectories)
    }
}

/// A line of what was asked and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardNote {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// Why text is no dispute.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisputeError {
    /// It is not JSON of this form.
    #[error("this is no dispute: {0}")]
    Json(#[from] serde_json::Error),
    /// A field cannot be read.
    #[error("the dispute's {0} cannot be read")]
    Field(&'static str),
    /// Another version wrote it.
    #[error("version {0} of dispute files is not known")]
    Version(u32),
}

/// Why a dispute shows nothing to a judge that does not believe the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotShown {
    /// Its kind rests on the wallet's word. A judge can ask the gateway, or have the issuer settle the spend.
    #[error("a dispute of this kind rests on the word of the wallet")]
    Word,
    /// The signatures in it hold, and the rest a gateway's answer must show.
    #[error(
        "the gateway's receipt is genuine; whether its set lacks the spend, the answer to \
         `/.well-known/halometer/spent/{epoch}/{prefix}` shows: give that with --answer"
    )]
    Ask {
        /// The epoch to ask about.
        epoch: EpochNumber,
        /// What to ask for.
        prefix: Prefix,
    },
    /// The answer is about other nullifiers.
    #[error("the answer is about other nullifiers than the dispute's; ask for those that begin with {0}")]
    OtherAnswer(Prefix),
    /// The settlement is not the issuer's for this spend.
    #[error("the settlement is not the issuer's for this spend")]
    Settlement,
    /// Something that its kind needs is not in it.
    #[error("the dispute has no {0}")]
    Missing(&'static str),
    /// A directory in it is not the issuer's.
    #[error("a directory in it is not signed by this issuer's root key")]
    Directory,
    /// The receipt is not the gateway's for this spend and request.
    #[error("the receipt is not the gateway's for this spend and request")]
    Receipt,
    /// All is genuine, and nothing is wrong with it.
    #[error("what is in it does not contradict itself")]
    Nothing,
}

/// What a judge asks a gateway for, to see whether its set has a spend.
fn asked_for(spend: &Spend) -> Prefix {
    Prefix::of(&spend.nullifier, Prefix::MAX_TOLD)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    halometer_dispute: u32,
    kind: DisputeKind,
    /// Unix seconds.
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settlement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mint: Option<String>,
    directories: Vec<String>,
    heard: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: u64,
    what: String,
}

impl Dispute {
    /// Whether `newer` takes its place: it is about the same spend and of the same kind. One that shows something is kept, unless
    /// the other shows the same.
    pub(super) fn replaced_by(&self, newer: &Self) -> bool {
        self.kind == newer.kind
            && self.spend == newer.spend
            && self.mint == newer.mint
            && self.directories == newer.directories
            && (!self.kind.is_shown() || self.receipt == newer.receipt)
    }

    /// Whether it is about the mint of this payment.
    pub(super) fn is_of_mint(&self, payment: &PaymentId) -> bool {
        self.mint.as_ref().is_some_and(|mint| mint.payment == *payment)
    }

    /// Whether it is about the spend of these bytes.
    pub(super) fn is_of_spend(&self, spend: &[u8]) -> bool {
        self.spend.as_deref() == Some(spend)
    }

    /// Whether it shows what it claims, to a judge that knows the issuer's root key and trusts no party. Of the spend
    /// it does not matter whether its proof holds: the gateway's signature is over it.
    ///
    /// # Errors
    /// [`NotShown`]. [`NotShown::Ask`] of a [`DisputeKind::Lost`] whose signatures hold.
    pub fn verify(&self, root: &RootKey) -> Result<(), NotShown> {
        if !self.kind.is_shown() && self.kind != DisputeKind::Lost {
            return Err(NotShown::Word);
        }
        if self.kind == DisputeKind::TwoDirectories {
            let directories = self.directories(root)?;
            let [one, other] = directories.as_slice() else { return Err(NotShown::Missing("two directories")) };
            return if one.contradicts(other) { Ok(()) } else { Err(NotShown::Nothing) };
        }
        let (directory, spend, receipt) = self.signed(root)?;
        if self.kind == DisputeKind::Lost {
            self.check_settlement(&directory, &spend, &receipt)?;
            return Err(NotShown::Ask { epoch: spend.epoch, prefix: asked_for(&spend) });
        }
        let fair = fair_cost(&receipt, &spend, &directory).ok_or(NotShown::Missing("tariff or usage"))?;
        if receipt.cost() > fair { Ok(()) } else { Err(NotShown::Nothing) }
    }

    /// Whether a [`DisputeKind::Lost`] shows what it claims, given what the gateway's set answered to a judge: all of its spent
    /// nullifiers of the spend's epoch that begin with a prefix. The judge must have asked after the time of the dispute, and
    /// while the epoch's records were kept.
    ///
    /// # Errors
    /// [`NotShown`]; [`NotShown::Nothing`] if the set has the spend.
    pub fn verify_lost(&self, root: &RootKey, prefix: Prefix, answer: &[Nullifier]) -> Result<(), NotShown> {
        let spend = match self.verify(root) {
            Err(NotShown::Ask { .. }) => self.spend.as_ref().and_then(|bytes| Spend::from_bytes(bytes).ok()),
            other => return other.and(Err(NotShown::Nothing)),
        };
        let spend = spend.ok_or(NotShown::Missing("spend"))?;
        if !prefix.is_of(&spend.nullifier) {
            return Err(NotShown::OtherAnswer(asked_for(&spend)));
        }
        if answer.contains(&spend.nullifier) { Err(NotShown::Nothing) } else { Ok(()) }
    }

    fn directories(&self, root: &RootKey) -> Result<Vec<Directory>, NotShown> {
        self.directories.iter().map(|signed| signed.verify(root).map_err(|_| NotShown::Directory)).collect()
    }

    /// The spend, and the gateway's receipt for it, if that is genuine.
    fn signed(&self, root: &RootKey) -> Result<(Directory, Spend, Receipt), NotShown> {
        let directory = self.directories(root)?.into_iter().next().ok_or(NotShown::Missing("directory"))?;
        let spend = self.spend.as_ref().and_then(|bytes| Spend::from_bytes(bytes).ok());
        let spend = spend.ok_or(NotShown::Missing("spend"))?;
        let receipt = self.receipt.as_ref().and_then(|bytes| Receipt::from_bytes(bytes).ok());
        let receipt = receipt.ok_or(NotShown::Missing("receipt"))?;
        let content = self.content.ok_or(NotShown::Missing("digest of the request"))?;
        let gateway = directory.gateway(&spend.gateway).ok_or(NotShown::Receipt)?;
        let context = directory.epoch(spend.epoch).and_then(|epoch| spend.context(&directory.issuer(), epoch).hash());
        let context = context.ok_or(NotShown::Receipt)?;
        let key = SpendKey { epoch: spend.epoch, nullifier: spend.nullifier, context };
        let subject = ReceiptSubject { issuer: directory.issuer(), gateway: gateway.id, spend: key, content };
        receipt.verify(&gateway.key, &subject).map_err(|_| NotShown::Receipt)?;
        Ok((directory, spend, receipt))
    }

    /// Whether the settlement is of the spend's change, and of what the receipt says that it cost.
    fn check_settlement(&self, directory: &Directory, spend: &Spend, receipt: &Receipt) -> Result<(), NotShown> {
        let settlement = self.settlement.as_ref().ok_or(NotShown::Missing("settlement"))?;
        let epoch = directory.epoch(settlement.epoch).ok_or(NotShown::Settlement)?;
        let signed = epoch.key.verify(&spend.change.leaf(settlement.refund.micro()), &settlement.signature);
        let fits = spend.charge.checked_sub(settlement.refund) == Some(receipt.cost());
        if signed && fits { Ok(()) } else { Err(NotShown::Settlement) }
    }

    /// JSON; bytes are hexadecimal.
    pub fn to_json(&self) -> String {
        let hex = |bytes: &[u8]| hex::encode(bytes);
        let file = File {
            halometer_dispute: 1,
            kind: self.kind,
            at: self.at.seconds(),
            gateway: self.gateway.map(|gateway| hex(gateway.as_bytes())),
            spend: self.spend.as_deref().map(hex),
            content_sha256: self.content.as_ref().map(|content| hex(&content.to_bytes())),
            settlement: self.settlement.as_ref().map(|settlement| hex(&settlement.to_bytes())),
            receipt: self.receipt.as_deref().map(hex),
            mint: self.mint.as_ref().map(|mint| hex(&mint.to_bytes())),
            directories: self.directories.iter().map(|directory| hex(&directory.to_bytes())).collect(),
            heard: self.heard.iter().map(|note| Line { at: note.at.seconds(), what: note.what.clone() }).collect(),
        };
        // Strings and numbers are written to memory without fail.
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }

    /// Reads [`to_json`](Self::to_json).
    ///
    /// # Errors
    /// [`DisputeError`].
    pub fn from_json(json: &str) -> Result<Self, DisputeError> {
        let file: File = serde_json::from_str(json)?;
        if file.halometer_dispute != 1 {
            return Err(DisputeError::Version(file.halometer_dispute));
        }
        fn read<T>(
            text: Option<&String>,
            name: &'static str,
            read: impl Fn(Vec<u8>) -> Option<T>,
        ) -> Result<Option<T>, DisputeError> {
            text.map(|text| hex::decode(text).ok().and_then(&read).ok_or(DisputeError::Field(name))).transpose()
        }
        let spend = read(file.spend.as_ref(), "spend", |bytes| Spend::from_bytes(&bytes).ok().map(|_| bytes))?;
        let content = read(file.content_sha256.as_ref(), "digest", |bytes| bytes.try_into().ok())?;
        let directories = file.directories.iter().map(|text| {
            let bytes = hex::decode(text).map_err(|_| DisputeError::Field("directory"))?;
            SignedDirectory::from_bytes(&bytes).map_err(|_| DisputeError::Field("directory"))
        });
        Ok(Self {
            kind: file.kind,
            at: Timestamp::from_seconds(file.at),
            gateway: read(file.gateway.as_ref(), "gateway", |bytes| bytes.try_into().ok())?.map(GatewayId::from_bytes),
            spend,
            content: content.map(ContentDigest::from_bytes),
            settlement: read(file.settlement.as_ref(), "settlement", |bytes| Settlement::from_bytes(&bytes).ok())?,
            receipt: read(file.receipt.as_ref(), "receipt", Some)?,
            mint: read(file.mint.as_ref(), "mint", |bytes| MintStatement::from_bytes(&bytes).ok())?,
            directories: directories.collect::<Result<_, _>>()?,
            heard: {
                let note = |line: Line| HeardNote { at: Timestamp::from_seconds(line.at), what: line.what };
                file.heard.into_iter().map(note).collect()
            },
        })
    }
}
