//! The other parties: the issuer, and a payer that runs for as long as the command does.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;

use super::super::interrupts::Interrupts;
pub(crate) use super::network::client;
use super::network::{rested, timed};
use super::trouble::Trouble;
use super::{disputes, progress};
use halometer::http::payer::{Client, ClientError, CreditState, Event, Payer, PayerObserver, PayerParts, Status};
use halometer::protocol::{Credits, Directory, DirectoryError, Fault, GatewayId, SignedDirectory};
use halometer::wallet::file::FileJournal;
use halometer::wallet::{Journal as _, OpenError, Policy, Wallet};

/// Under what the wallet's file keeps where the issuer is.
pub(super) const ISSUER: &str = "issuer-url";
/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(25);

/// Whether this process has begun anything that credit may depend on: a payer runs, or an issuer was asked for more than its directory.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// How long work that was interrupted may take to say how far it came.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Runs what asks others, until it is done or interrupted. What is interrupted is no worse off than what is killed: whatever was begun is
/// written down, and finished by a later command.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::yours(format!("cannot start threads: {error}")))?;
    let done = runtime.block_on(async {
        let heard = Interrupts::new();
        let mut interrupts = heard.map_err(|error| Trouble::yours(format!("cannot hear signals: {error}")))?;
        let _line = progress::begin();
        let mut work = core::pin::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = interrupts.next() => {}
        }
        // What can say how far it came has heard it as well. Twice means at once.
        tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = interrupts.next() => {}
            () = tokio::time::sleep(LAST_WORD) => {}
        }
        let begun = BEGUN.load(Ordering::Relaxed);
        Err(Trouble::interrupted(if begun { CreditState::Safe } else { CreditState::Untouched }))
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    done
}

/// An issuer's server.
#[derive(Debug)]
pub(super) struct Issuer {
    url: String,
    client: Client,
}

impl Issuer {
    /// At this address.
    pub(super) fn at(url: &str) -> Result<Self, Trouble> {
        let url = url.trim_end_matches('/');
        let next = "give it as in https://issuer.example";
        let uri: Uri = url.parse().map_err(|_| Trouble::yours(format!("`{url}` is no URL")).next(next))?;
        let host = uri.host().unwrap_or_default();
        match uri.scheme_str() {
            Some("https") => {}
            // A mint request holds what lets others take the payment.
            Some("http") if is_private(host) => {}
            Some("http") => {
                return Err(Trouble::yours(format!("what is sent to `{host}` over plain HTTP can be read on the way"))
                    .next("give an address that begins with https"));
            }
            _ => return Err(Trouble::yours(format!("`{url}` is no address of a server")).next(next)),
        }
        Ok(Self { client: client([url])?, url: url.to_owned() })
    }

    /// Where the wallet has it from, unless somebody says otherwise.
    pub(super) fn of(said: Option<&str>, wallet: &Wallet<FileJournal>) -> Result<Self, Trouble> {
        if let Some(url) = said {
            return Self::at(url);
        }
        let known = wallet.journal().note(ISSUER)?;
        let missing =
            || Trouble::yours("the wallet does not know where the issuer is").next("say it with --issuer URL");
        Self::at(&known.ok_or_else(missing)?)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// For what is more than a question.
    pub(super) fn client(&self) -> &Client {
        BEGUN.store(true, Ordering::Relaxed);
        &self.client
    }

    /// The directory that it shows. Not verified yet.
    pub(super) async fn directory(&self) -> Result<SignedDirectory, Trouble> {
        progress::say("asking the issuer for its directory");
        self.client.directory(&self.url).await.map_err(|error| self.trouble(error))
    }

    /// Why it does not answer as an issuer does.
    pub(super) fn trouble(&self, error: ClientError) -> Trouble {
        let url = &self.url;
        let why = match &error {
            // It was not asked.
            ClientError::Http(cause) if cause.is_of_proxy() => return error.into(),
            ClientError::Http(cause) if cause.is_unsent() => error.to_string(),
            ClientError::Problem(details) if details.kind().is_none() => {
                format!("what answers there is none ({})", details.status)
            }
            ClientError::Status(status) => format!("what answers there is none ({status})"),
            ClientError::Decode(_) | ClientError::TooLong => "what answers there is none".to_owned(),
            _ => return error.into(),
        };
        let trouble = Trouble::from(error).what_is(format!("no issuer at {url}: {why}"));
        trouble.next("look at the address, in --issuer or as the issuer publishes it, and run the command again")
    }
}

/// Whether what is sent there stays on this machine, or is protected otherwise.
fn is_private(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback()) || host == "localhost" || host.ends_with(".onion")
}

/// Goes over to a directory, if it is newer. True if it was. An older one is somebody's who is behind, and changes nothing.
pub(super) fn go_over(wallet: &mut Wallet<FileJournal>, shown: &SignedDirectory) -> Result<bool, Trouble> {
    if shown == wallet.signed_directory() {
        return Ok(false);
    }
    match wallet.adopt(shown) {
        Ok(()) => Ok(true),
        Err(OpenError::Directory(DirectoryError::Stale)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// As [`choose`], in the wallet's directory. Where that has no such gateway, the issuer may have a newer one that has.
pub(crate) fn look_for(
    wallet: &mut Wallet<FileJournal>,
    named: Option<GatewayId>,
    origin: Option<&str>,
) -> Result<GatewayId, Trouble> {
    let chosen = choose(wallet.directory(), named, origin);
    let several = wallet.directory().parts().gateways.len() > 1;
    let listed = named.as_ref().map_or(several, |id| wallet.directory().gateway(id).is_some());
    // It has it, and something else is wrong.
    if chosen.is_ok() || (origin.is_none() && listed) {
        return chosen;
    }
    let Ok(issuer) = Issuer::of(None, wallet) else { return chosen };
    let Ok(shown) = block_on(issuer.directory())? else { return chosen };
    if go_over(wallet, &shown)? { choose(wallet.directory(), named, origin) } else { chosen }
}

/// The gateway that is meant: the one that is named, or that has this origin, or the only one.
pub(crate) fn choose(
    directory: &Directory,
    named: Option<GatewayId>,
    origin: Option<&str>,
) -> Result<GatewayId, Trouble> {
    let gateways = &directory.parts().gateways;
    let has = |known: &str| origin.is_some_and(|origin| known.trim_end_matches('/').eq_ignore_ascii_case(origin));
    let mut meant = gateways.iter().filter(|gateway| match (named, origin) {
        (Some(id), _) => gateway.id == id,
        (None, Some(_)) => gateway.origins.iter().any(|known| has(known)),
        (None, None) => true,
    });
    let list = || gateways.iter().map(|gateway| format!("{} at {}", gateway.id, gateway.origins.join(", ")));
    match (meant.next(), meant.next()) {
        (Some(gateway), None) => {
            if origin.is_some() && !gateway.origins.iter().any(|known| has(known)) {
                return Err(Trouble::yours("the gateway that is named is at another address than the URL")
                    .next("give the path alone, or leave out --gateway"));
            }
            Ok(gateway.id)
        }
        (None, _) => Err(Trouble::yours("the issuer's directory has no such gateway")
            .next(format!("choose one of: {}", list().collect::<Vec<_>>().join("; ")))),
        (Some(_), Some(_)) => Err(Trouble::yours("there are several gateways")
            .next(format!("choose one with --gateway: {}", list().collect::<Vec<_>>().join("; ")))),
    }
}

/// The class of calls that nobody has given one.
pub(crate) fn smallest_class(directory: &Directory) -> Result<Credits, Trouble> {
    let smallest = directory.classes().iter().min().copied();
    smallest.ok_or_else(|| Trouble::new("the issuer's directory has no charge class", Fault::Operator))
}

/// How a wallet is used by a command: it makes one proof, for the call that it is there for. It does not last long enough for a
/// quiet time.
pub(super) fn policy(class: Credits) -> Policy {
    rested(Policy { ready: 1, provers: 1, jitter_seconds: 2, ..Policy::personal(class) })
}

/// What happened while a payer ran.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Vec<Event>>);

impl Told {
    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<Event> {
        self.lock().clone()
    }
}

impl PayerObserver for Told {
    fn event(&self, event: &Event) {
        progress::after(event);
        self.lock().push(event.clone());
    }
}

/// A payer, and what it told.
pub(super) struct Online {
    pub(super) payer: Payer<FileJournal>,
    pub(super) told: Arc<Told>,
}

impl Online {
    pub(super) async fn start(
        wallet: Wallet<FileJournal>,
        gateway: GatewayId,
        policy: Policy,
    ) -> Result<Self, Trouble> {
        let told = Arc::new(Told::default());
        let origins = wallet.directory().parts().gateways.iter().flat_map(|gateway| &gateway.origins);
        let client = client(origins.map(String::as_str))?;
        let parts = timed(PayerParts::new(gateway, policy, client)).with_observer(Arc::clone(&told) as _);
        progress::say("comparing the directory with the gateway's");
        let payer = Payer::start(wallet, parts).await?;
        BEGUN.store(true, Ordering::Relaxed);
        progress::say("making a proof");
        Ok(Self { payer, told })
    }

    /// Does something, until it is done or interrupted. What is interrupted says whether a spend was sent.
    pub(super) async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        let heard = Interrupts::new();
        let mut interrupts = heard.map_err(|error| Trouble::yours(format!("cannot hear signals: {error}")))?;
        let newest = || {
            let last =
                |wallet: &mut Wallet<FileJournal>| wallet.journal().history(1).ok()?.pop().map(|entry| entry.key);
            self.payer.with_wallet(last)
        };
        let before = newest().await?;
        tokio::select! {
            biased;
            done = work => return Ok(done),
            () = interrupts.next() => {}
        }
        let sent = newest().await? != before;
        Err(Trouble::interrupted(if sent { CreditState::Safe } else { CreditState::Untouched }))
    }

    /// Waits until something is so, or the time is over. Gives the last state.
    pub(super) async fn wait(
        &self,
        time: Duration,
        until: impl Fn(&Status, &[Event]) -> bool,
    ) -> Result<Status, Trouble> {
        let end = Instant::now() + time;
        loop {
            let status = self.payer.status().await?;
            if until(&status, &self.told.all()) || Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends it, and gives back the wallet.
    pub(super) async fn end(self) -> Option<Wallet<FileJournal>> {
        self.payer.shutdown().await
    }
}

/// What the owner should know of what happened, a line each.
pub(crate) fn news(events: &[Event]) -> Vec<String> {
    let line = |event: &Event| {
        Some(match event {
            Event::Pursued(accepted) => {
                format!("a spend of lane {} that had no answer was settled: it cost {}", accepted.lane, accepted.cost)
            }
            Event::DisputeKept(kind) => format!("a dispute is kept: the other side {}", disputes::words(*kind)),
            Event::LaneFrozen(lane) => {
                format!("lane {lane} is frozen: a copy of this wallet spent its note; nothing is sent of it any more")
            }
            Event::QuestionsFailed => {
                "it could not be asked whether a copy of this wallet spent its notes; they are not spent before"
                    .to_owned()
            }
            Event::GatewayAway => {
                "the gateway cannot be reached: it is looked for, and calls are refused meanwhile".to_owned()
            }
            Event::GatewayThere => "the gateway is there".to_owned(),
            Event::DirectoryAdopted { serial } => format!("the issuer's directory number {serial} is gone by now"),
            Event::RolledOver(lane) => format!("lane {lane} was rolled over into the epoch that issues"),
            Event::EpochEnds { lane, at } => {
                format!("the note of lane {lane} can be spent until {} UTC and not longer", super::say::utc(*at))
            }
            _ => return None,
        })
    };
    events.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_not_talked_to_in_the_open() {
        for url in ["https://a.example", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "http://a.onion/"]
        {
            assert!(Issuer::at(url).is_ok(), "{url}");
        }
        for url in ["http://a.example", "http://10.0.0.1", "ftp://a.example", "a.example", "", "https://", "/x"] {
            assert!(Issuer::at(url).is_err(), "{url}");
        }
    }
}
