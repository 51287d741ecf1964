//! Two attacks on the gateway, carried out over HTTP by a caller who has paid.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, header};
use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::error::DemoError;
use super::figures::narrow;
use super::report::{DoubleSpend, Refusal, Replay};
use halometer::http::clock::now;
use halometer::http::payer::Client;
use halometer::http::payment::{Credential, Payload, PaymentChallenge, PaymentReceipt, RECEIPT_HEADER};
use halometer::http::problem::{self, ProblemDetails};
use halometer::lifecycle::Evidence;
use halometer::protocol::{ContentDigest, Credits, DeviceId, LANES, PaymentId, Request, Settlement, SpendKey};
use halometer::testing::chat::COMPLETIONS;
use halometer::testing::stack::Stack;
use halometer::wallet::{LaneId, MemoryJournal, ProvingKeys, RootSecret, Wallet};

/// A cheater: one wallet, copied. The two copies share all secrets, but not the journal that would keep them honest.
pub struct Mallory {
    first: Wallet<MemoryJournal>,
    copy: Wallet<MemoryJournal>,
    payment: PaymentId,
    classes: [Credits; 2],
    keys: Arc<ProvingKeys>,
    sender: reqwest::Client,
    paid: u64,
    cost: u64,
}

impl core::fmt::Debug for Mallory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Mallory(..)")
    }
}

/// What the gateway answered: a refusal, if it was one, and a settlement, if there was one.
struct Answered {
    refusal: Refusal,
    settlement: Option<Vec<u8>>,
}

/// The lane that is spent from.
const LANE: LaneId = LaneId { payment: 0, lane: 0 };

/// What the gateway answers to a request without payment.
pub(super) async fn unpaid(stack: &Stack, body: &Bytes) -> Result<Refusal, DemoError> {
    Ok(send(&sender()?, stack, None, body).await?.refusal)
}

/// Sends what it is given, over plain HTTP, and knows nothing of payments.
fn sender() -> Result<reqwest::Client, DemoError> {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().map_err(|error| unsent(&error))
}

fn unsent(error: &reqwest::Error) -> DemoError {
    DemoError::Attack(error.to_string())
}

impl Mallory {
    /// Pays, and mints the payment into both copies: the issuer answers the same request with the same notes.
    pub(super) async fn fund(stack: &Stack, client: &Client, class: Credits) -> Result<Self, DemoError> {
        let classes = stack.gateway().directory().classes();
        // Two different charges make two different contexts of one note.
        let other = classes.iter().copied().find(|other| *other != class);
        let other = other.ok_or_else(|| DemoError::Attack("the directory has only one charge class".to_owned()))?;
        let lane = class.max(other);
        let amounts = [lane; LANES];
        let paid = lane.micro() * LANES as u64;
        let payment = stack.pay(Credits::from_micro(paid))?;
        let mut rng = UnwrapErr(SysRng);
        let (secret, device) = (rng.random(), DeviceId::from_bytes(rng.random()));
        let issuer = stack.issuer_url();
        let directory = client.directory(&issuer).await?;
        let mut copies = Vec::new();
        for _ in 0..2 {
            let root = RootSecret::from_bytes(secret);
            let mut wallet = Wallet::new(root, device, stack.root_key(), &directory, MemoryJournal::new())?;
            let request = wallet.request_mint(payment, amounts, now())?;
            let response = client.mint(&issuer, &request).await?;
            wallet.accept_mint(&payment, &response, now())?;
            copies.push(wallet);
        }
        let (Some(copy), Some(first)) = (copies.pop(), copies.pop()) else {
            return Err(DemoError::Attack("the wallet could not be copied".to_owned()));
        };
        Ok(Self {
            first,
            copy,
            payment,
            classes: [class, other],
            keys: Arc::default(),
            sender: sender()?,
            paid,
            cost: 0,
        })
    }

    /// What was paid in, micro-credits.
    pub(super) fn paid(&self) -> u64 {
        self.paid
    }

    /// What was charged so far, micro-credits.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// What the wallet is worth, micro-credits.
    pub(super) fn balance(&self) -> u64 {
        narrow(self.first.balance().total())
    }

    /// Pays for a call, then sends the very same bytes again.
    pub(super) async fn replay(&mut self, stack: &Stack, body: &Bytes) -> Result<Replay, DemoError> {
        let (key, credential) = spend(&mut self.first, &self.keys, stack, self.classes[0], body).await?;
        let answered = send(&self.sender, stack, Some(&credential), body).await?;
        let bytes = answered.settlement.ok_or_else(|| {
            let Refusal { status, problem } = &answered.refusal;
            DemoError::Attack(format!("the call before it was answered {status} {problem}"))
        })?;
        let settlement = Settlement::from_bytes(&bytes).map_err(|error| DemoError::Attack(error.to_string()))?;
        let accepted =
            self.first.accept(&key, &settlement, now()).map_err(|error| DemoError::Attack(error.to_string()))?;
        self.cost += accepted.cost.micro();

        let cost_before = narrow(stack.books()?.charged);
        let again = send(&self.sender, stack, Some(&credential), body).await?;
        let cost_after = narrow(stack.books()?.charged);
        let same_settlement = again.settlement.as_deref() == Some(&bytes);
        let refused = (again.refusal.status, again.refusal.problem.as_str()) == (409, "already-spent");
        Ok(Replay {
            ok: refused && same_settlement && cost_before == cost_after,
            refusal: again.refusal,
            same_settlement,
            cost_before,
            cost_after,
        })
    }

    /// Spends, with the copied wallet, the note that the first one has spent already.
    pub(super) async fn double_spend(&mut self, stack: &Stack, body: &Bytes) -> Result<DoubleSpend, DemoError> {
        let before = stack.books()?.charged;
        let (_, credential) = spend(&mut self.copy, &self.keys, stack, self.classes[1], body).await?;
        let answered = send(&self.sender, stack, Some(&credential), body).await?;
        let named = match stack.evidence().last() {
            None => None,
            Some(evidence) => {
                // What somebody finds who was sent the evidence, and has nothing else than the directory.
                let read = Evidence::from_bytes(&evidence.to_bytes(), stack.gateway().directory());
                let holds = read.is_ok_and(|read| read.account() == evidence.account());
                Some((evidence.account(), stack.name(evidence)?, holds))
            }
        };
        let payment = self.payment.to_string();
        let refused = (answered.refusal.status, answered.refusal.problem.as_str()) == (409, "double-spend");
        let uncharged = stack.books()?.charged == before;
        let mut outcome = DoubleSpend {
            refusal: answered.refusal,
            cheaters_payment: payment.clone(),
            // The wallet's and the cheater's.
            payments: 2,
            ..DoubleSpend::default()
        };
        if let Some((account, record, holds)) = named {
            outcome.named_account = Some(hex::encode(account.to_bytes()));
            outcome.named_payment = record.map(|record| record.payment.to_string());
            outcome.evidence_holds = holds;
        }
        outcome.ok = refused && uncharged && outcome.evidence_holds && outcome.named_payment.as_ref() == Some(&payment);
        Ok(outcome)
    }
}

/// Makes a spend of the lane's note and signs the request with it.
async fn spend(
    wallet: &mut Wallet<MemoryJournal>,
    keys: &Arc<ProvingKeys>,
    stack: &Stack,
    class: Credits,
    body: &Bytes,
) -> Result<(SpendKey, HeaderValue), DemoError> {
    let failed = |error: &dyn std::error::Error| DemoError::Attack(error.to_string());
    let gateway = stack.gateway().id();
    let url = stack.gateway_url();
    let authority = url.trim_start_matches("http://");
    let request =
        Request::new(authority, "POST", COMPLETIONS, ContentDigest::of(body)).map_err(|error| failed(&error))?;
    let job = wallet.plan(LANE, &gateway, class, now()).map_err(|error| failed(&error))?;
    let keys = Arc::clone(keys);
    let proving = tokio::task::spawn_blocking(move || {
        let key = keys.of(&job.epoch_key());
        job.prove(&key, &mut rand::rng())
    });
    let ready = proving.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let authorised = wallet.authorise(ready, &request, now()).map_err(|error| failed(&error))?;
    let challenge = PaymentChallenge::of(stack.gateway().directory(), &gateway);
    let credential = Credential { challenge, payload: Payload::Opening(authorised.opening) };
    let value = HeaderValue::from_str(&credential.to_header_value()).map_err(|error| failed(&error))?;
    Ok((authorised.key, value))
}

/// Sends one request, as it is, once.
async fn send(
    sender: &reqwest::Client,
    stack: &Stack,
    credential: Option<&HeaderValue>,
    body: &Bytes,
) -> Result<Answered, DemoError> {
    let mut request = sender.post(format!("{}{COMPLETIONS}", stack.gateway_url()));
    request = request.header(header::CONTENT_TYPE, "application/json");
    if let Some(credential) = credential {
        request = request.header(header::AUTHORIZATION, credential.clone());
    }
    let answer = request.body(body.clone()).send().await.map_err(|error| unsent(&error))?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.map_err(|error| unsent(&error))?;
    let receipt = headers.get(RECEIPT_HEADER).and_then(|value| value.to_str().ok());
    let receipt = receipt.and_then(|receipt| PaymentReceipt::from_header_value(receipt).ok());
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let problem = match kind.is_some_and(|kind| kind.starts_with(problem::CONTENT_TYPE)) {
        true => serde_json::from_slice(&body).ok(),
        false => None,
    };
    let problem = problem.unwrap_or_else(|| ProblemDetails::plain(status, ""));
    let settlement = match receipt {
        Some(receipt) => receipt.settlement().ok(),
        None => problem.settlement(),
    };
    let name = problem.kind().map_or("", |kind| kind.as_str());
    Ok(Answered { refusal: Refusal::new(status, name), settlement })
}
