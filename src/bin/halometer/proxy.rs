//! `halometer proxy`: the caller's side, for programs that know nothing of payments.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::json;

use super::interrupts::Interrupts;
use super::keyfile;
use super::wallet::Place;
use super::wallet::network::{client, rested, timed};
use super::wallet::online::{look_for, news, smallest_class};
use super::wallet::say::say;
use super::wallet::trouble::Trouble;
use halometer::http::payer::{Event, Payer, PayerParts};
use halometer::http::proxy::{Keys, PAGE_PATH, Proxy, ProxyError, ProxyOptions, STATUS_PATH};
use halometer::http::server::Listener;
use halometer::protocol::{Credits, GatewayId};
use halometer::wallet::Policy;
use halometer::wallet::file::FileJournal;

/// How long requests that are under way may take to finish, beyond what the server gives them.
const DRAIN: Duration = Duration::from_secs(20);
/// How often the file of keys is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The arguments of `halometer proxy`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which wallet, and how it is opened.
    #[command(flatten)]
    pub place: Place,

    /// The gateway's id, where the issuer has several.
    #[arg(long, value_name = "ID")]
    pub gateway: Option<GatewayId>,

    /// The charge class: what a call may cost at most, micro-credits; what it does not cost comes back. Without it the smallest. It is
    /// visible: use one class for all calls.
    #[arg(long, value_name = "N")]
    pub class: Option<u64>,

    /// Where to listen; with port 0, at a free port.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8402")]
    pub listen: SocketAddr,

    /// Listen where other machines can connect, too. Anyone that can connect can spend the wallet's credit, and reads along on the way.
    #[arg(long)]
    pub allow_others: bool,

    /// How many proofs are kept ready, and how soon credit is moved in quiet times.
    #[arg(long, value_enum, default_value_t = Use::Personal)]
    pub policy: Use,

    /// How long sessions may be, seconds; 0: none. Requests that have the header `Halometer-Session` with one and the same name share
    /// one: they wait for no proof, and the gateway sees that they are one caller's.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub session_seconds: u32,

    /// Pass this header of requests on as well; may be repeated. It tells your calls from those without it.
    #[arg(long = "pass-header", value_name = "NAME")]
    pub pass_headers: Vec<HeaderName>,

    /// Take requests only with a key of this file, which `halometer wallet key new` makes: each key has a budget of its own. The file is
    /// read again whenever it changes.
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

/// The user of the wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Use {
    /// One person with one assistant.
    Personal,
    /// A program that makes many calls at once.
    Agent,
}

/// Does it, until it is interrupted.
pub fn run(args: &Args) -> ExitCode {
    let json = args.place.json;
    args.place.network.establish();
    serve(args).unwrap_or_else(|trouble| trouble.tell(json))
}

fn serve(args: &Args) -> Result<ExitCode, Trouble> {
    if !args.listen.ip().is_loopback() && !args.allow_others {
        return Err(Trouble::yours(format!("{} is no loopback address: others could spend your credit", args.listen))
            .next("listen on 127.0.0.1, or say --allow-others"));
    }
    // Before anybody is asked for a passphrase.
    let keys = args.keys.as_deref().map(keyfile::read).transpose()?;
    let mut wallet = args.place.open()?;
    let gateway = look_for(&mut wallet, args.gateway, None)?;
    let directory = wallet.directory();
    let class = match args.class {
        Some(class) => Credits::from_micro(class),
        None => smallest_class(directory)?,
    };
    let origins = directory.parts().gateways.iter().flat_map(|gateway| &gateway.origins);
    let client = client(origins.map(String::as_str))?;
    let policy = rested(Policy { session_seconds: args.session_seconds, ..policy(args.policy, class) });
    let parts = timed(PayerParts::new(gateway, policy, client)).with_observer(Arc::new(tell));
    let mut options =
        ProxyOptions::default().with_pass_headers(args.pass_headers.clone()).with_any_host(args.allow_others);
    if let Some((keys, _)) = &keys {
        tell_useless(keys, class);
        options = options.with_keys(keys.clone());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Trouble::yours(format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let heard = Interrupts::new();
        let mut interrupts = heard.map_err(|error| Trouble::yours(format!("cannot hear signals: {error}")))?;
        let listener = Listener::bind(args.listen).await.map_err(|error| {
            Trouble::yours(format!("cannot listen on {}: {error}", args.listen)).next("choose another --listen")
        })?;
        let payer = Payer::start_waiting(wallet, parts).await?;
        let proxy = Proxy::new(payer.clone(), options)?;
        if let Some(why) = payer.away() {
            eprintln!(
                "halometer: the gateway cannot be reached: {why}; it is looked for, and calls are refused meanwhile"
            );
        }
        if let (Some(path), Some((_, text))) = (&args.keys, keys) {
            tokio::spawn(watch(proxy.clone(), path.clone(), text, class));
        }
        let server = listener.serve(proxy.router());
        introduce(args, &server.url(), gateway, class)?;
        interrupts.next().await;
        eprintln!("halometer: calls that are under way may finish; what is cut short is charged once, and settled at the next use");
        let finishing = async {
            server.shutdown().await;
            proxy.drain(DRAIN).await;
        };
        tokio::select! {
            () = finishing => {}
            () = interrupts.next() => {}
        }
        // What is cut short is pursued when the wallet is used again.
        payer.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Goes by the file of keys as it is at any time.
async fn watch(proxy: Proxy<FileJournal>, path: PathBuf, mut known: Vec<u8>, class: Credits) {
    let mut readable = true;
    loop {
        tokio::time::sleep(LOOK).await;
        let looked = Path::to_owned(&path);
        let Ok(read) = tokio::task::spawn_blocking(move || keyfile::read(&looked)).await else { continue };
        match read {
            Ok((keys, text)) if text != known || !readable => {
                eprintln!("halometer: the file of keys has changed: {} keys from now on", keys.rules().len());
                tell_useless(&keys, class);
                proxy.set_keys(Ok(keys));
                (known, readable) = (text, true);
            }
            Ok(_) => {}
            Err(trouble) => {
                if readable {
                    eprintln!("halometer: {}: no request is taken until the keys can be read", trouble.what());
                }
                proxy.set_keys(Err(trouble.what().to_owned()));
                readable = false;
            }
        }
    }
}

/// Keys whose caps let no call be paid.
fn tell_useless(keys: &Keys, class: Credits) {
    for rule in keys.rules().iter().filter(|rule| !rule.revoked) {
        let budget = &rule.budget;
        let smallest = [budget.per_call, budget.per_day, budget.total].into_iter().flatten().min();
        if let Some(cap) = smallest.filter(|cap| *cap < class) {
            eprintln!(
                "halometer: key `{}` can pay for no call: a call is charged {class}, above its cap of {cap}",
                budget.name
            );
        }
    }
}

fn introduce(args: &Args, url: &str, gateway: GatewayId, class: Credits) -> Result<(), Trouble> {
    let (base, status) = (format!("{url}/v1"), format!("{url}{STATUS_PATH}"));
    let value = json!({
        "url": url,
        "base_url": base,
        "status_url": status,
        "page_url": format!("{url}{PAGE_PATH}"),
        "gateway": gateway.to_string(),
        "class": class.to_string(),
    });
    if args.allow_others && args.keys.is_some() {
        eprintln!(
            "halometer: anyone that can connect to {url} can look at this wallet's page, and spends with a key only"
        );
    } else if args.allow_others {
        eprintln!("halometer: anyone that can connect to {url} can spend this wallet's credit");
    }
    let lines = [
        format!("base URL for clients of OpenAI's API: {base}"),
        format!("how the wallet is doing:              {url}{PAGE_PATH}"),
        format!("gateway {gateway}, at most {class} micro-credits a call; Ctrl-C ends it"),
    ];
    Ok(say(args.place.json, &value, lines)?)
}

fn policy(used: Use, class: Credits) -> Policy {
    match used {
        Use::Personal => Policy::personal(class),
        Use::Agent => {
            let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
            Policy::agent(class, u32::try_from(cores).unwrap_or(u32::MAX))
        }
    }
}

/// What the owner should know. Nothing of single calls: who reads along later should not find them.
fn tell(event: &Event) {
    news(core::slice::from_ref(event)).iter().for_each(|line| eprintln!("halometer: {line}"));
}

impl From<ProxyError> for Trouble {
    fn from(error: ProxyError) -> Self {
        Self::yours(error.to_string()).next("leave out that --pass-header")
    }
}
