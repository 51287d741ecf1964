//! The demo from its start to its report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::json;
use tokio::sync::watch;

use super::attacks::{self, Mallory};
use super::error::DemoError;
use super::figures::{Spread, amount, narrow};
use super::kept::Kept;
use super::report::{Check, Money, Report, Sample, Sizes, Times, Tokens};
use crate::prompts::Prompts;
use halometer::circuits::proof::Proof;
use halometer::http::clock::now;
use halometer::http::payer::{CallError, Client, CreditState, Paid, Payer, PayerParts};
use halometer::http::pricing::TokenPricing;
use halometer::http::usage::Usage;
use halometer::protocol::{Credits, DeviceId, Directory, LANES, Spend, Tariff};
use halometer::testing::chat::COMPLETIONS;
use halometer::testing::stack::{Stack, StackOptions, UpstreamOptions};
use halometer::wallet::{MemoryJournal, PaymentError, Policy, RootSecret, Wallet};

/// After so many calls that failed, no more are begun.
const PATIENCE: usize = 10;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of calls.
    pub calls: usize,
    /// What is asked.
    pub prompts: Prompts,
    /// The service to put the gateway in front of; the demo's own if there is none.
    pub upstream: Option<UpstreamOptions>,
    /// The model to ask for.
    pub model: String,
    /// The longest answer to ask for, tokens.
    pub max_tokens: u32,
    /// Where the records are kept; in memory if nowhere.
    pub keep: Option<PathBuf>,
}

/// Is told how far the demo is.
pub trait Progress: Sync {
    /// Something for people to read, once.
    fn say(&self, line: &str);
    /// A part of so many steps begins.
    fn begin(&self, what: &'static str, steps: usize);
    /// So many steps of it are done.
    fn step(&self, done: usize);
}

/// Runs the demo. `stop` becoming true ends it early, with all that is on its way finished.
///
/// # Errors
/// [`DemoError`].
pub async fn run(
    options: Options,
    progress: &dyn Progress,
    mut stop: watch::Receiver<bool>,
) -> Result<Report, DemoError> {
    let kept = options.keep.as_deref().map(Kept::create).transpose()?;
    let records = kept.as_ref().map(Kept::records);
    let stack =
        Stack::start(StackOptions { upstream: options.upstream.clone(), records, ..StackOptions::default() }).await?;
    if let Some(kept) = &kept {
        kept.directory(stack.issuer().signed_directory())?;
    }
    let outcome = tokio::select! {
        outcome = with_stack(&stack, &options, progress) => outcome,
        _ = stop.wait_for(|stop| *stop) => Err(DemoError::Interrupted),
    };
    if let Some(kept) = kept {
        progress.say(&kept.conclude(&stack)?);
    }
    stack.shutdown().await;
    outcome
}

async fn with_stack(stack: &Stack, options: &Options, progress: &dyn Progress) -> Result<Report, DemoError> {
    let client = Client::plain()?;
    let class = class_for(stack.gateway().directory(), options);
    introduce(stack, options, class, progress);
    let unpaid = attacks::unpaid(stack, &question(options, 0)).await?;

    let provers = std::thread::available_parallelism().map_or(1, usize::from);
    let lane = Credits::from_micro(class.micro() * (1 + options.calls.div_ceil(LANES) as u64));
    let wallet = fund(stack, &client, [lane; LANES], RootSecret::generate(&mut UnwrapErr(SysRng))).await?;
    let most = u32::try_from(provers).unwrap_or(u32::MAX);
    // The sums are compared at the end: nothing is moved meanwhile.
    let policy = Policy { provers: most, gather: false, ..Policy::agent(class, most) };
    let payer = Payer::start(wallet, PayerParts::new(stack.gateway().id(), policy, client.clone())).await?;
    make_first_proofs(&payer, progress).await?;

    progress.begin("paying for the calls", options.calls);
    let started = Instant::now();
    let tally = pay(&payer, stack, options, progress).await;
    let seconds = started.elapsed().as_secs_f64();
    let proof_times = payer.proof_times();
    let verify_times = stack.verify_times();
    let balance = payer.with_wallet(|wallet| wallet.balance().total()).await.map_err(CallError::from)?;
    let balance = narrow(balance);
    payer.shutdown().await;

    progress.begin("attacking the gateway", 2);
    let mut mallory = Mallory::fund(stack, &client, class).await?;
    let replay = mallory.replay(stack, &question(options, 0)).await?;
    progress.step(1);
    let double_spend = mallory.double_spend(stack, &question(options, 1)).await?;
    progress.step(2);

    let minted = lane.micro() * LANES as u64;
    let money = Money { minted, balance, ..tally.money };
    let checks = reconcile(stack, &money, tally.priced, &mallory)?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        ok: false,
        calls: options.calls,
        answered: tally.answered,
        failures: tally.failures.into_iter().chain(stack.upstream_failures()).collect(),
        prompts: describe(&options.prompts),
        upstream: stack.upstream_url().to_owned(),
        model: options.model.clone(),
        lanes: LANES,
        provers,
        seconds,
        unpaid,
        sample: tally.sample,
        money,
        tokens: tally.tokens,
        times: Times {
            prove: Spread::of(&proof_times),
            authorise: Spread::of(&tally.authorising),
            verify: Spread::of(&verify_times),
            call: Spread::of(&tally.answering),
        },
        bytes: Sizes { proof: Proof::LENGTH, spend: Spend::LENGTH, header_line: tally.header_line },
        checks,
        replay,
        double_spend,
    };
    Ok(report.judge())
}

fn introduce(stack: &Stack, options: &Options, class: Credits, progress: &dyn Progress) {
    let service = match options.upstream {
        Some(_) => "the service that is sold",
        None => "a chat service in OpenAI's dialect, which knows nothing of payments",
    };
    progress.say(&format!(
        "halometer {}: {} anonymous, prepaid calls, on this machine",
        env!("CARGO_PKG_VERSION"),
        options.calls
    ));
    progress.say("");
    let (gateway, issuer) = (stack.gateway_url(), stack.issuer_url());
    for (name, place, what) in [
        ("service", stack.upstream_url(), service.to_owned()),
        ("gateway", &gateway, "asks for payment, verifies, meters, settles".to_owned()),
        ("issuer", &issuer, "sells credit: it knows who pays, and never sees a call".to_owned()),
        (
            "wallet",
            "",
            format!("{LANES} lanes; charges {} micro-credits a call, and gets the rest back", amount(class.micro())),
        ),
        ("questions", "", describe(&options.prompts)),
    ] {
        progress.say(&format!("  {name:<10}{place:<24}{what}"));
    }
    progress.say("");
}

fn describe(prompts: &Prompts) -> String {
    format!("{} from {}", prompts.count(), prompts.source())
}

/// The smallest class that covers the worst case of every question; the largest if none does.
fn class_for(directory: &Directory, options: &Options) -> Credits {
    let longest = (0..options.calls.min(options.prompts.count())).map(|index| question(options, index).len()).max();
    // No tokenizer makes more tokens than there are bytes.
    let worst = Usage { input: longest.unwrap_or(0) as u64, output: u64::from(options.max_tokens) };
    let price = directory.parts().tariffs.first();
    let price = price.and_then(|tariff| TokenPricing::price(worst, tariff, directory.quantum()));
    let classes = directory.classes();
    let enough = classes.iter().find(|class| price.is_some_and(|price| **class >= price));
    enough.or(classes.last()).copied().unwrap_or_default()
}

/// The body of a call.
fn question(options: &Options, index: usize) -> Bytes {
    let body = json!({
        "model": options.model,
        "messages": [{ "role": "user", "content": options.prompts.of_call(index) }],
        "max_tokens": options.max_tokens,
    });
    body.to_string().into()
}

/// Pays the issuer and has the payment minted into a new wallet.
pub(super) async fn fund(
    stack: &Stack,
    client: &Client,
    amounts: [Credits; LANES],
    root: RootSecret,
) -> Result<Wallet<MemoryJournal>, DemoError> {
    let issuer = stack.issuer_url();
    let sum = Credits::checked_sum(amounts).ok_or(PaymentError::Overflow)?;
    let payment = stack.pay(sum)?;
    let device = DeviceId::from_bytes(UnwrapErr(SysRng).random());
    let directory = client.directory(&issuer).await?;
    let mut wallet = Wallet::new(root, device, stack.root_key(), &directory, MemoryJournal::new())?;
    let request = wallet.request_mint(payment, amounts, now())?;
    let response = client.mint(&issuer, &request).await?;
    wallet.accept_mint(&payment, &response, now())?;
    Ok(wallet)
}

async fn make_first_proofs(payer: &Payer<MemoryJournal>, progress: &dyn Progress) -> Result<(), DemoError> {
    progress.begin("making the first proofs", LANES);
    for count in 1..=LANES {
        payer.wait_ready(count).await?;
        progress.step(count);
    }
    Ok(())
}

/// What the calls came to.
#[derive(Debug, Default)]
struct Tally {
    answered: usize,
    sample: Option<Sample>,
    failed: usize,
    failures: BTreeSet<String>,
    money: Money,
    /// The cost of the calls by the tariff, computed by the caller from what it was sent.
    priced: u64,
    tokens: Tokens,
    authorising: Vec<Duration>,
    answering: Vec<Duration>,
    header_line: usize,
}

/// Makes the calls, as many at a time as there are lanes.
async fn pay(payer: &Payer<MemoryJournal>, stack: &Stack, options: &Options, progress: &dyn Progress) -> Tally {
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    let directory = stack.gateway().directory();
    let lane = || async {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= options.calls || lock(&tally).failed >= PATIENCE {
                return;
            }
            let body = question(options, index);
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let outcome = payer.call(Method::POST, COMPLETIONS, headers, body.clone()).await;
            let mut tally = lock(&tally);
            tally.add(outcome, &body, directory);
            progress.step(tally.answered);
        }
    };
    tokio::join!(lane(), lane(), lane(), lane(), lane(), lane(), lane(), lane());
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn add(&mut self, outcome: Result<Paid, CallError>, request: &Bytes, directory: &Directory) {
        let paid = match outcome {
            Ok(paid) => paid,
            Err(error) => {
                if let CreditState::Spent(accepted) = error.credit() {
                    self.count(&accepted);
                    // What came of it is not at hand: there is nothing to check this one's price against.
                    self.priced += accepted.cost.micro();
                }
                return self.fail(error.to_string());
            }
        };
        self.count(&paid.accepted);
        let estimated = || Usage::estimated(request.len() as u64, paid.body.len() as u64);
        let usage = match paid.status.is_success() {
            true => Usage::reported(&paid.body).unwrap_or_else(estimated),
            false => Usage::default(),
        };
        let price = |tariff: &Tariff| TokenPricing::price(usage, tariff, directory.quantum());
        let price = directory.parts().tariffs.first().and_then(price).unwrap_or(paid.accepted.charge);
        self.priced += price.min(paid.accepted.charge).micro();
        self.tokens.input += usage.input;
        self.tokens.output += usage.output;
        self.authorising.push(paid.spent.authorising);
        self.answering.push(paid.spent.answering);
        self.header_line = self.header_line.max(paid.header_line);
        if !paid.status.is_success() {
            return self.fail(complaint(paid.status, &paid.body));
        }
        self.answered += 1;
        if self.sample.is_none() {
            self.sample = sample(request, &paid);
        }
    }

    fn count(&mut self, accepted: &halometer::wallet::Accepted) {
        self.money.charge += accepted.charge.micro();
        self.money.cost += accepted.cost.micro();
        self.money.refund += accepted.refund.micro();
    }

    fn fail(&mut self, message: String) {
        self.failed += 1;
        self.failures.insert(message);
    }
}

/// The call as an example, if both sides keep to OpenAI's form.
fn sample(request: &[u8], paid: &Paid) -> Option<Sample> {
    let text = |body: &[u8], pointer: &str| {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        Some(body.pointer(pointer)?.as_str()?.to_owned())
    };
    Some(Sample {
        question: text(request, "/messages/0/content")?,
        answer: text(&paid.body, "/choices/0/message/content")?,
        charge: paid.accepted.charge.micro(),
        cost: paid.accepted.cost.micro(),
        refund: paid.accepted.refund.micro(),
    })
}

/// What a service says that does not answer, in OpenAI's form if it keeps to that.
fn complaint(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
    let said = said.map(|said| said.chars().take(200).collect::<String>());
    format!("the service answers {status}{}", said.map(|said| format!(": {said}")).unwrap_or_default())
}

/// Every figure is compared with another one that came about on another way.
fn reconcile(stack: &Stack, money: &Money, priced: u64, mallory: &Mallory) -> Result<Vec<Check>, DemoError> {
    let books = stack.books()?;
    let sum = |a: u64, b: u64| a.saturating_add(b);
    Ok(vec![
        Check::new("tariff x tokens of the answers = cost", priced, money.cost),
        Check::new("charge - cost = refund", money.charge.saturating_sub(money.cost), money.refund),
        Check::new("paid in - cost = the wallet's balance", money.minted.saturating_sub(money.cost), money.balance),
        Check::new(
            "books: minted = paid in, cheater included",
            narrow(books.minted),
            sum(money.minted, mallory.paid()),
        ),
        Check::new(
            "books: cost = what the calls cost the wallets",
            narrow(books.charged),
            sum(money.cost, mallory.cost()),
        ),
        Check::new(
            "books: outstanding = what the wallets hold",
            narrow(books.outstanding),
            sum(money.balance, mallory.balance()),
        ),
        Check::new("books: held for calls that are not settled = 0", narrow(books.held), 0),
    ])
}
