//! How this process reaches others. The wallet's commands and the proxy get their clients here and nowhere else, so that none goes
//! another way than its owner said.

use std::sync::OnceLock;
use std::time::Duration;

use super::trouble::Trouble;
use halometer::http::payer::{Client, PayerParts, Socks5};
use halometer::wallet::Policy;

/// The heading of what every command of a wallet understands.
pub(super) const COMMON: &str = "Wallet and network";

/// How others are reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Network {
    /// Connect through this SOCKS5 proxy and never past it; Tor's is 127.0.0.1:9050. Names are looked up by the proxy. Each spend has a
    /// circuit of its own, and so has each request that is no call. Without the proxy nothing is sent.
    #[arg(long, value_name = "HOST:PORT", global = true, help_heading = COMMON)]
    pub socks5: Option<Socks5>,

    /// How long one answer may take, seconds. Without it 330 for a call, and 30 for anything else, or 90 through a proxy. A spend whose
    /// answer did not come is charged once, and what it does not cost comes back.
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        help_heading = COMMON,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub timeout: Option<u32>,

    /// How long credit that was just minted rests before its first use, seconds: at least so long, and at most twice as long. A mint and
    /// a call soon after it are likely one caller's.
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        help_heading = COMMON,
        default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(..=31_536_000)
    )]
    pub rest: u32,
}

/// For the whole process, as every connection is under it.
static NETWORK: OnceLock<Network> = OnceLock::new();

impl Network {
    /// Has everything go this way from now on. The first to say so decides.
    pub(crate) fn establish(&self) {
        NETWORK.get_or_init(|| self.clone());
    }

    fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn client(&self, secure: bool) -> Result<Client, Trouble> {
        let mut client = if secure && self.socks5.is_none() { Client::secure()? } else { Client::plain()? };
        if let Some(proxy) = &self.socks5 {
            client = if secure { Client::secure()?.through(proxy.clone())? } else { client.through(proxy.clone())? };
        }
        Ok(match self.timeout() {
            Some(timeout) => client.with_timeout(timeout),
            None => client,
        })
    }
}

fn network() -> Network {
    NETWORK.get().cloned().unwrap_or_default()
}

/// A client for these addresses. TLS is set up only if one of them needs it: it reads all of the system's authorities.
pub(crate) fn client<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Client, Trouble> {
    network().client(urls.into_iter().any(|url| !url.starts_with("http://")))
}

/// The same with the time that an answer may take.
pub(crate) fn timed(parts: PayerParts) -> PayerParts {
    match network().timeout() {
        Some(timeout) => parts.with_answer_timeout(timeout),
        None => parts,
    }
}

/// The same with the rest of fresh credit.
pub(crate) fn rested(policy: Policy) -> Policy {
    Policy { rest_seconds: network().rest, ..policy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_goes_through_the_proxy_that_was_named() {
        let proxy: Socks5 = "127.0.0.1:9050".parse().unwrap();
        let network = Network { socks5: Some(proxy.clone()), timeout: Some(7), rest: 0 };
        for secure in [false, true] {
            assert_eq!(network.client(secure).unwrap().proxy(), Some(&proxy));
            assert_eq!(Network::default().client(secure).unwrap().proxy(), None);
        }
    }

    #[test]
    fn no_command_makes_a_client_by_itself() {
        let of = |place: &str| format!("{}/src/bin/halometer/{place}", env!("CARGO_MANIFEST_DIR"));
        let mut files = vec![of("proxy.rs"), of("wallet.rs")];
        files.extend(std::fs::read_dir(of("wallet")).unwrap().map(|entry| entry.unwrap().path().display().to_string()));
        for file in files.into_iter().filter(|file| !file.ends_with("network.rs")) {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            for direct in ["Client::plain", "Client::secure", "reqwest", "TcpStream", "to_socket_addrs", "lookup_host"]
            {
                assert!(!text.contains(direct), "{file} has {direct}: ask network::client for a client");
            }
        }
    }
}
