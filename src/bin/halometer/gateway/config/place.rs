//! Reading the file, and saying where in it something is wrong.

use std::path::{Path, PathBuf};

use super::{Config, Secret, Unlock, check};
use halometer::sealed::read_bounded;

/// Longest file, bytes.
const LONGEST: usize = 1 << 20;

/// A configuration, and where it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says; its relative paths are made absolute.
    pub config: Config,
    /// The file.
    pub file: PathBuf,
    /// Whether the operator says that the clock is right, however far it moved.
    pub accept_clock: bool,
    text: String,
}

/// Why a configuration is none. Its author is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    /// The key with its sections, as `upstream.url`.
    key: Option<String>,
    what: String,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", `{key}`")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl core::error::Error for ConfigError {}

impl Loaded {
    /// Reads and checks a file, without touching anything that it names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let error = |what: String| ConfigError { file: file.to_owned(), line: None, key: None, what };
        let bytes = read_bounded(file, LONGEST).map_err(|cause| error(format!("cannot be read: {cause}")))?;
        let text = core::str::from_utf8(&bytes).map_err(|_| error("is not UTF-8 text".to_owned()))?;
        Self::parse(file, text)
    }

    /// As [`read`](Self::read), of a text.
    pub(in crate::gateway) fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let parsed: Result<Config, toml::de::Error> = toml::from_str(text);
        let config = parsed.map_err(|error| {
            let line = error.span().map(|span| line_at(text, span.start));
            // Neither the line nor a text that has no place there: it may be a secret that was put into the file.
            let what = without_text(error.message().trim()).replace('\n', ", ");
            ConfigError { file: file.to_owned(), line, key: line.and_then(|line| key_at(text, line)), what }
        })?;
        let mut loaded = Self { config, file: file.to_owned(), accept_clock: false, text: text.to_owned() };
        check::check(&loaded)?;
        loaded.resolve();
        Ok(loaded)
    }

    /// An error about a key, at its line.
    pub fn error(&self, key: &str, what: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: line_of(&self.text, key),
            key: Some(key.to_owned()),
            what: what.into(),
        }
    }

    fn resolve(&mut self) {
        let base = self.file.parent().map(Path::to_owned).unwrap_or_default();
        let absolute = |path: &mut PathBuf| *path = base.join(&*path);
        let secret = |secret: &mut Secret| {
            if let Secret::File(path) = secret {
                absolute(path);
            }
        };
        let Config { upstream, issuer, store, tls, beside, .. } = &mut self.config;
        upstream.api_key.iter_mut().for_each(secret);
        beside.iter_mut().for_each(|beside| secret(&mut beside.secret));
        let paths = [&mut issuer.keys, &mut issuer.directory, &mut issuer.evidence, &mut store.path];
        paths.into_iter().for_each(absolute);
        store.mark.iter_mut().for_each(absolute);
        store.postgres.iter_mut().for_each(|postgres| postgres.resolve(&base));
        match &mut issuer.unlock {
            Unlock::KeyFile(path) => absolute(path),
            Unlock::Passphrase(passphrase) => secret(passphrase),
        }
        issuer.payments.keys.values_mut().flat_map(|key| &mut key.hmac_sha256).for_each(secret);
        tls.iter_mut().chain(&mut issuer.tls).flat_map(|tls| [&mut tls.cert, &mut tls.key]).for_each(absolute);
    }
}

/// A message without the text that was found where none was expected, in words for what may be written there.
fn without_text(message: &str) -> String {
    let message =
        match message.strip_prefix("invalid type: string \"").and_then(|rest| rest.rsplit_once("\", expected ")) {
            Some((_, expected)) => format!("invalid type: a text, expected {expected}"),
            None => message.to_owned(),
        };
    if message == "invalid socket address syntax" {
        return "expected an address and a port, as \"127.0.0.1:8400\" or \"[::1]:8400\"".to_owned();
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message };
    let words = match expected {
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "usize" | "u64" | "u128" => "a whole number, 0 or more",
        "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text in quotes",
        "a sequence" => "a list, as [\"one\", \"two\"]",
        "a map" => "a table, as { name = value }",
        "socket address" => "an address and a port in quotes, as \"127.0.0.1:8400\"",
        other if other.starts_with("struct ") => "a section of its own, in brackets",
        other => other,
    };
    format!("{found}, expected {words}")
}

/// The number of the line that a byte is in, from 1.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// Each line with the key that it sets, sections included, or with its section if it begins one.
fn keys(text: &str) -> impl Iterator<Item = (usize, String)> {
    let mut section = String::new();
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        let begins = line.strip_prefix('[').and_then(|rest| rest.split(']').next());
        if let Some(name) = begins {
            section = name.trim_start_matches('[').trim().to_owned();
            return Some((index + 1, section.clone()));
        }
        let (key, _) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
        let key = key.trim().trim_matches('"');
        let whole = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        Some((index + 1, whole))
    })
}

/// The key that is set at a line, or whose value goes over it.
fn key_at(text: &str, line: usize) -> Option<String> {
    keys(text).take_while(|(number, _)| *number <= line).last().map(|(_, key)| key)
}

/// The line at which a key is set; else that of its section.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut wanted = key;
    loop {
        if let Some((line, _)) = keys(text).find(|(_, found)| found == wanted) {
            return Some(line);
        }
        wanted = wanted.rsplit_once('.')?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::config::StoreKind;
    use halometer::protocol::{GatewaySigningKey, RootSigningKey};

    const GOOD: &str = r#"
origins = ["https://api.example.org"]
[upstream]
url = "http://127.0.0.1:9000"
[pricing]
kind = "tokens"
[prices]
input_token = { credits = 2 }
output_token = { credits = 8 }
[issuer.payments]
kind = "development"
"#;

    fn wrong(text: &str) -> String {
        Loaded::parse(Path::new("dir/gateway.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn omitted_keys_have_defaults_and_paths_start_at_the_file() {
        let loaded = Loaded::parse(Path::new("dir/gateway.toml"), GOOD).unwrap();
        assert_eq!(loaded.config.listen.port(), 8400);
        assert_eq!(loaded.config.store.path, Path::new("dir/store"));
        assert_eq!(loaded.config.issuer.unlock, Unlock::KeyFile("dir/keys/unlock.key".into()));
        let absolute = format!("{GOOD}[store]\npath = \"/var/lib/shop\"");
        let loaded = Loaded::parse(Path::new("dir/gateway.toml"), &absolute).unwrap();
        assert_eq!(loaded.config.store.path, Path::new("/var/lib/shop"));
    }

    #[test]
    fn every_mistake_names_its_line_its_key_and_the_expected_value() {
        for (from, to, told) in [
            ("kind = \"tokens\"", "kind = 5", "line 6, `pricing.kind`: "),
            ("url =", "ulr =", "line 4, `upstream.ulr`: unknown field `ulr`, expected one of `url`"),
            (
                "url = \"http://127.0.0.1:9000\"",
                "url = \"ftp://a\"",
                "line 4, `upstream.url`: `ftp://a` must begin with http",
            ),
            ("[\"https://api.example.org\"]", "[]", "line 2, `origins`: expected 1 to 16 origins"),
            (
                "https://api.example.org",
                "api.example.org",
                "line 2, `origins`: `api.example.org` is no origin: expected http://",
            ),
            (
                "{ credits = 2 }",
                "2",
                "line 8, `prices.input_token`: invalid type: integer `2`, expected a price, as { credits",
            ),
            (
                "{ credits = 2 }",
                "{ credits = 2, per = 0 }",
                "line 7, `prices`: the price of `input_token` is not well-formed",
            ),
            (
                "output_token =",
                "token =",
                "line 6, `pricing.kind`: counts `output_token`, of which `prices` has no price",
            ),
            (
                "kind = \"tokens\"",
                "kind = \"tokens\"\nheader = \"x\"",
                "line 7, `pricing.header`: is for kind = \"header\" only",
            ),
            (
                "kind = \"tokens\"",
                "kind = \"routes\"\nsold = [\"GET /\"]",
                "line 7, `pricing.sold`: is said by [[pricing.routes]] for kind",
            ),
            ("kind = \"tokens\"", "sold = [\"GET\"]", "line 6, `pricing.sold`: `GET` is not a method and a pattern"),
            (
                "kind = \"tokens\"",
                "kind = \"routes\"",
                "line 5, `pricing`: kind = \"routes\" expects [[pricing.routes]]",
            ),
            ("kind = \"development\"", "kind = \"notices\"", "line 10, `issuer.payments`: expected a key"),
            ("kind = \"development\"", "keys.a = {}", "line 11, `issuer.payments.keys.a`: expected either"),
            (
                "[issuer.payments]",
                "[admin]\nlisten = \"0.0.0.0:1\"\n[issuer.payments]",
                "line 11, `admin.listen`: 0.0.0.0:1 is no",
            ),
            (
                "[issuer.payments]",
                "[limits]\nrequests = 0\n[issuer.payments]",
                "line 11, `limits.requests`: 0 is out of range: expected 1 to",
            ),
            (
                "[issuer.payments]",
                "[limits]\nrequests = -1\n[issuer.payments]",
                "line 11, `limits.requests`: invalid value",
            ),
            (
                "[issuer.payments]",
                "[directory]\nclasses = [1, 1]\n[issuer.payments]",
                "line 11, `directory.classes`: expected 1 to 16",
            ),
            (
                "[issuer.payments]",
                "[issuer.schedule]\nahead_seconds = 0\n[issuer.payments]",
                "line 10, `issuer.schedule`: the epochs",
            ),
            (
                "[issuer.payments]",
                "[cluster]\n[issuer.payments]",
                "line 10, `cluster`: needs a store that several processes share",
            ),
            (
                "[issuer.payments]",
                "[store]\nkind = \"memory\"\n[cluster]\nlisten = \"0.0.0.0:1\"\n[issuer.payments]",
                "line 13, `cluster.listen`: is reached at no address of its own",
            ),
            (
                "[issuer.payments]",
                "[store]\nkind = \"memory\"\n[cluster]\nlisten = \"127.0.0.1:8400\"\n[issuer.payments]",
                "line 13, `cluster.listen`: is an address that others reach",
            ),
            (
                "[issuer.payments]",
                "[store]\nkind = \"memory\"\n[cluster]\naddress = \"a:1\"\naddress_env = \"A\"\n[issuer.payments]",
                "line 14, `cluster.address_env`: is said beside `cluster.address`",
            ),
            ("[prices]", "[prices", "line 7"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = wrong(&GOOD.replacen(from, to, 1));
            assert!(error.starts_with("dir/gateway.toml, ") && error.contains(told), "{told}\n{error}");
        }
    }

    #[test]
    fn the_configuration_of_the_manifest_is_one() {
        let manifest = include_str!("../../../../../examples/cluster/kubernetes/gateway.yaml");
        let (_, text) = manifest.split_once("  gateway.toml: |\n").unwrap();
        let text: String =
            text.lines().take_while(|line| *line != "---").map(|line| format!("{}\n", line.trim())).collect();
        let config =
            Loaded::parse(Path::new("dir/gateway.toml"), &text).unwrap_or_else(|error| panic!("{error}")).config;
        assert_eq!(config.replica().unwrap().address_env.as_deref(), Some("POD_IP"));
        assert!(config.store.kind == StoreKind::Postgres && config.limits.shutdown_seconds == 600);
    }

    /// Of a gateway whose issuer is elsewhere.
    const REMOTE: &str = r#"
[upstream]
url = "http://127.0.0.1:9000"
[issuer]
kind = "remote"
url = "https://issuer.example.org"
root_key = "ROOT"
"#;

    fn remote() -> String {
        let root = RootSigningKey::from_bytes(&[5; 32]).public_key();
        REMOTE.replace("ROOT", &hex::encode(root.to_bytes()))
    }

    #[test]
    fn what_an_issuer_elsewhere_says_is_not_said_here() {
        let good = remote();
        assert!(Loaded::parse(Path::new("dir/gateway.toml"), &good).is_ok());
        let line = |text: &str| good.lines().position(|line| line.starts_with(text)).unwrap();
        let cut = |text: &str| {
            let kept = good.lines().enumerate().filter(|(at, _)| *at != line(text)).map(|(_, line)| line);
            kept.collect::<Vec<_>>().join("\n")
        };
        for (text, told) in [
            (cut("url = \"https"), "`issuer`: kind = \"remote\" expects `url`"),
            (cut("root_key"), "`issuer`: kind = \"remote\" expects `root_key`"),
            (
                good.replace("https://issuer", "http://issuer"),
                "`issuer.url`: `http://issuer.example.org` is not an address of",
            ),
            (good.replace("root_key = \"", "root_key = \"0"), "`issuer.root_key`: expected 64"),
            (format!("origins = [\"https://a\"]{good}"), "line 1, `origins`: is the issuer's to say"),
            (format!("{good}[prices]\ncall = {{ credits = 1 }}"), "`prices`: is the issuer's to say"),
            (format!("{good}[store]\npath = \"elsewhere\""), "`store`: is the issuer's to say"),
            (format!("{good}[quotas]\ncancels_per_minute = 1"), "`quotas`: is the issuer's to say"),
            (format!("{good}listen = \"127.0.0.1:1\""), "`issuer.listen`: is the issuer's to say"),
            (format!("{good}[issuer.schedule]\nahead_seconds = 1"), "`issuer.schedule`: is the issuer's to say"),
        ] {
            let error = wrong(&text);
            assert!(error.contains(told), "{told}\n{error}");
        }
        // What is no issuer's.
        for more in ["[quotas]\nspent_per_minute = 1", "[limits]\nrequests = 1", "[pricing]\nkind = \"tokens\""] {
            assert!(Loaded::parse(Path::new("gateway.toml"), &format!("{good}{more}")).is_ok(), "{more}");
        }
    }

    #[test]
    fn gateways_elsewhere_are_named_with_a_key_that_is_one() {
        let id = "0123456789abcdef0123456789abcdef";
        let key = hex::encode(GatewaySigningKey::from_bytes(&[6; 32]).public_key().to_bytes());
        let one = format!("[[issuer.clearing]]\nid = \"{id}\"\nkey = \"{key}\"\norigins = [\"https://a\"]\n");
        let with = |text: &str| format!("{GOOD}{text}");
        let loaded = Loaded::parse(Path::new("gateway.toml"), &with(&one)).unwrap();
        assert_eq!(loaded.config.issuer.clearing[0].id.0.to_string(), id);
        for (text, told) in [
            (one.replace(id, "01"), "line 13, `issuer.clearing.id`: expected a gateway's id"),
            (one.replace(&key, &"ff".repeat(32)), "line 14, `issuer.clearing.key`: expected a gateway's public key"),
            (one.replace("\"https://a\"", ""), "`issuer.clearing.origins`: expected 1 to 16 origins"),
            (one.repeat(2), "`issuer.clearing`: has gateway 0123456789abcdef0123456789abcdef twice"),
            (
                "[issuer]\norigins = [\"https://i\"]".to_owned(),
                "`issuer.origins`: is for an issuer with an address of its own",
            ),
            ("[issuer]\nroot_key = \"00\"".to_owned(), "`issuer.root_key`: expected 64"),
            ("[issuer]\nurl = \"https://i\"".to_owned(), "`issuer.url`: is for kind = \"remote\" only"),
        ] {
            let error = wrong(&with(&text));
            assert!(error.contains(told), "{told}\n{error}");
        }
    }

    #[test]
    fn what_is_expected_is_said_in_words() {
        for (text, told) in [
            ("[limits]\nrequests = \"many\"", "expected a whole number, 0 or more"),
            ("[limits]\nrequests = -1", "expected a whole number, 0 or more"),
            ("[limits]\nbody_seconds = 1.5", "expected a whole number from 0 to 4294967295"),
            ("[limits]\ntrusted_proxies = 5", "expected a list"),
            ("[admin]\nlisten = \"nowhere\"", "expected an address and a port, as"),
            ("[admin]\nlisten = 8401", "expected an address and a port in quotes"),
            ("[store]\npath = 5", "expected a text in quotes"),
        ] {
            let error = wrong(&format!("{GOOD}{text}\n"));
            assert!(error.contains(told), "{text}\n{error}");
            for word in ["usize", "u32", "syntax", "struct"] {
                assert!(!error.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn a_secret_that_was_put_into_the_file_is_not_told() {
        for secret in ["api_key = \"sk-123456\"", "password = \"sk-123456\"", "api_key = { value = \"sk-123456\" }"] {
            let error = wrong(&GOOD.replace("[pricing]", &format!("{secret}\n[pricing]")));
            assert!(error.contains("line 5, `upstream."), "{error}");
            assert!(!error.contains("sk-123456"), "{error}");
        }
    }
}
