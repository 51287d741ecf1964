//! `halometer gateway init`: a directory with all that a gateway needs.

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rand::RngExt as _;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use super::config::{Loaded, Origin, Secret, Unlock};
use super::vault::{GatewayIdentity, Vault};
use halometer::http::clock::system;
use halometer::sealed::{make_private, write_atomically};
use halometer::store::durable::{DurableStore, StoreOptions};
use halometer::store::{Look, SpentSet as _};

/// The configuration with all defaults, in which a few places are filled in.
const TEMPLATE: &str = include_str!("gateway.toml");
/// The same for a gateway whose issuer is elsewhere.
const REMOTE_TEMPLATE: &str = include_str!("remote.toml");

/// The arguments of `halometer gateway init`.
#[derive(Clone, Debug, clap::Args)]
pub struct InitArgs {
    /// The directory; it must not be there yet, or be empty.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// The service to put the gateway in front of, as https://api.example.com/base; paths of requests are appended.
    #[arg(long, value_name = "URL")]
    pub upstream: String,

    /// Where the gateway will listen. The operator's address is at the next port of loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8400")]
    pub listen: SocketAddr,

    /// As callers will know it, as https://api.example.org; http:// and the address if it is not said.
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,

    /// Seal the keys with the passphrase in this environment variable, now and at each start. Without it they are sealed with a key
    /// file beside them, so that the gateway starts unattended: a reader of that directory has them.
    #[arg(long, value_name = "NAME")]
    pub passphrase_env: Option<String>,

    /// Where the store's mark is kept, which tells when the store was set back to an earlier state: best on another disk than the
    /// directory. Without it beside the store, as `store.mark`: then nothing tells when the whole directory is put back from a copy.
    #[arg(long, value_name = "FILE", conflicts_with = "issuer")]
    pub mark: Option<PathBuf>,

    /// Let payments be made by anybody's word, at the operator's address: to try it out, and for nothing else.
    #[arg(long, conflicts_with = "issuer")]
    pub development: bool,

    /// An issuer elsewhere, who has the spent set, admits and settles, as https://issuer.example.org. Without it the issuer is inside.
    #[arg(long, value_name = "URL", requires = "root_key")]
    pub issuer: Option<String>,

    /// The issuer's root key, 64 hexadecimal digits: its directory is believed under this key only.
    #[arg(long, value_name = "HEX", requires = "issuer")]
    pub root_key: Option<String>,
}

/// Does it.
pub(super) fn run(args: &InitArgs) -> Result<ExitCode, Box<dyn Error>> {
    let dir = &args.dir;
    let text = configuration(args)?;
    // Before anything is made: what is said may be no URL, no origin.
    Loaded::parse(&dir.join("gateway.toml"), &text)?;
    // Which is not in it where the issuer's directory says it.
    Origin::try_from(args.origin())?;
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    if dir.exists() && std::fs::read_dir(dir).map_err(failed(dir))?.next().is_some() {
        return Err(format!("{} is there and not empty: nothing was changed", dir.display()).into());
    }
    let keys = dir.join("keys");
    make_private(&keys).map_err(failed(&keys))?;
    let unlock = match &args.passphrase_env {
        Some(name) => Unlock::Passphrase(Secret::Env(name.clone())),
        None => {
            let path = keys.join("unlock.key");
            let secret: Zeroizing<[u8; 32]> = Zeroizing::new(UnwrapErr(SysRng).random());
            write_atomically(&path, &secret[..]).map_err(failed(&path))?;
            Unlock::KeyFile(path)
        }
    };
    if args.issuer.is_some() {
        let identity = GatewayIdentity::create(&keys, &unlock)?;
        let file = finish(dir, &text)?;
        tell_remote(args, &identity, &file);
        return Ok(ExitCode::SUCCESS);
    }
    let vault = Vault::create(&keys, &unlock)?;
    if !args.development {
        let path = keys.join("notices.secret");
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(UnwrapErr(SysRng).random());
        write_atomically(&path, Zeroizing::new(hex::encode(&secret[..])).as_bytes()).map_err(failed(&path))?;
    }
    let options = StoreOptions::default().with_mark(args.absolute_mark()?);
    let store = DurableStore::create(dir.join("store"), vault.gateway(), &options)?;
    // So that the first start knows a clock that jumped since.
    store.spent_set().beat(Look::Clock { now: system(), passed: 0 })?;
    tell(args, &vault, &finish(dir, &text)?);
    Ok(ExitCode::SUCCESS)
}

/// What does not belong into a repository: keys, records, and what is kept of callers. The configuration does.
const GITIGNORE: &str = "/keys/\n/store/\n/store.*\n/evidence/\n/directory*\n*.key\n*.secret\n*.pem\n";

/// Last: where the configuration is, all else is.
fn finish(dir: &Path, text: &str) -> Result<PathBuf, Box<dyn Error>> {
    let ignore = dir.join(".gitignore");
    write_atomically(&ignore, GITIGNORE.as_bytes()).map_err(|error| format!("{}: {error}", ignore.display()))?;
    let file = dir.join("gateway.toml");
    write_atomically(&file, text.as_bytes()).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// The text, with what the operator said.
fn configuration(args: &InitArgs) -> Result<String, Box<dyn Error>> {
    let template = if args.issuer.is_some() { REMOTE_TEMPLATE } else { TEMPLATE };
    let port = args.listen.port().checked_add(1).filter(|port| *port > 1).unwrap_or(0);
    let unlock = match &args.passphrase_env {
        Some(name) => format!("unlock = {{ passphrase_env = {} }}", quoted(name)),
        None => "unlock = { key_file = \"keys/unlock.key\" }".to_owned(),
    };
    let payments = match args.development {
        true => "kind = \"development\"",
        false => "kind = \"notices\"\nkeys.shop = { hmac_sha256 = { file = \"keys/notices.secret\" } }",
    };
    let parts = [
        ("@listen@", quoted(&args.listen.to_string())),
        ("@admin@", quoted(&format!("127.0.0.1:{port}"))),
        ("@origin@", quoted(&args.origin())),
        ("@issuer@", quoted(args.issuer.as_deref().unwrap_or_default())),
        ("@root@", quoted(args.root_key.as_deref().unwrap_or_default())),
        ("@upstream@", quoted(&args.upstream)),
        ("@mark@", quoted(&args.mark_text()?)),
        ("@unlock@", unlock),
        ("@payments@", payments.to_owned()),
    ];
    Ok(parts.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value)))
}

impl InitArgs {
    /// The mark that was named, by a path that is good wherever the program is started.
    fn absolute_mark(&self) -> std::io::Result<Option<PathBuf>> {
        self.mark.as_ref().map(std::path::absolute).transpose()
    }

    /// The mark as the configuration names it.
    fn mark_text(&self) -> Result<String, Box<dyn Error>> {
        match self.absolute_mark()? {
            None => Ok("store.mark".to_owned()),
            Some(mark) => Ok(mark.to_str().ok_or("the path of the mark is no UTF-8 text")?.to_owned()),
        }
    }

    /// As callers will know it.
    fn origin(&self) -> String {
        self.origin.clone().unwrap_or_else(|| format!("http://{}", self.listen))
    }
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other if other.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn tell(args: &InitArgs, vault: &Vault, file: &Path) {
    let (dir, file) = (args.dir.display(), file.display());
    println!("made {dir}: keys, an empty store, and {file}");
    println!("root key   {}   (callers pin it)", hex::encode(vault.root().to_bytes()));
    println!("gateway    {}", vault.gateway());
    match &args.mark {
        Some(mark) => println!("mark       {}   (never copy it, and never put it back)", mark.display()),
        None => println!(
            "mark       {dir}/store.mark   (better on another disk: --mark FILE; never put it back from a copy)"
        ),
    }
    println!();
    println!("Set your prices in {file}, keep a copy of {dir}/keys in a safe place, and run");
    println!();
    println!("  halometer gateway --config {file}");
}

fn tell_remote(args: &InitArgs, identity: &GatewayIdentity, file: &Path) {
    let (dir, file) = (args.dir.display(), file.display());
    println!("made {dir}: a key, and {file}");
    println!();
    println!("Have the issuer's operator add this to the issuer's configuration:");
    println!();
    println!("[[issuer.clearing]]");
    println!("id = \"{}\"", identity.id);
    println!("key = \"{}\"", hex::encode(identity.key.public_key().to_bytes()));
    println!("origins = [{}]", quoted(&args.origin()));
    println!();
    println!("Keep a copy of {dir}/keys in a safe place, and run");
    println!();
    println!("  halometer gateway --config {file}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::config::IssuerKind;
    use halometer::protocol::RootSigningKey;

    fn args() -> InitArgs {
        InitArgs {
            dir: "shop".into(),
            upstream: "http://127.0.0.1:9000".into(),
            listen: ([127, 0, 0, 1], 8400).into(),
            origin: None,
            passphrase_env: None,
            mark: None,
            development: false,
            issuer: None,
            root_key: None,
        }
    }

    fn remote_args() -> InitArgs {
        let root = RootSigningKey::from_bytes(&[5; 32]).public_key();
        let issuer = Some("https://issuer.example.org".into());
        InitArgs { issuer, root_key: Some(hex::encode(root.to_bytes())), ..args() }
    }

    fn parse(text: &str) -> crate::gateway::config::Config {
        Loaded::parse(Path::new("gateway.toml"), text).unwrap_or_else(|error| panic!("{error}")).config
    }

    #[test]
    fn what_is_commented_out_is_the_default() {
        assert!(defaults_of(&args()) > 30);
        assert!(defaults_of(&remote_args()) > 15);
    }

    /// How many settings are commented out; each is the default.
    fn defaults_of(args: &InitArgs) -> usize {
        let text = configuration(args).unwrap();
        let made = parse(&text);
        // What shows a form, and is no default.
        let examples = [
            "free",
            "api_key",
            "ca",
            "kind",
            "sold",
            "routes",
            "request_item",
            "answer_item",
            "header",
            "item",
            "otherwise",
            "listen",
            "mark",
            "hosts",
            "trusted_proxies",
            "publish_seconds",
            "verify_threads",
            "admissions_per_minute",
        ];
        let (mut defaults, mut example) = (0, false);
        for line in text.lines() {
            // A section that is commented out as a whole has no defaults: it is not there.
            example = line.starts_with("# [") || (example && !line.starts_with('['));
            let Some(line) = line.strip_prefix("# ").filter(|_| !example) else { continue };
            let Some((key, _)) = line
                .split_once(" = ")
                .filter(|(key, _)| key.bytes().all(|byte| b"_".contains(&byte) || byte.is_ascii_lowercase()))
            else {
                continue;
            };
            if examples.contains(&key) {
                continue;
            }
            let uncommented = text.replacen(&format!("# {line}"), line, 1);
            assert_eq!(parse(&uncommented), made, "{line}");
            defaults += 1;
        }
        defaults
    }

    #[test]
    fn what_the_operator_says_is_in_it_and_is_no_toml_of_its_own() {
        let odd = InitArgs { upstream: "http://a/\"\n[store]\nkind = \"memory".into(), ..args() };
        let text = configuration(&odd).unwrap();
        assert!(
            Loaded::parse(Path::new("gateway.toml"), &text).is_err()
                || parse(&text).store == parse(&configuration(&args()).unwrap()).store
        );
        let sealed = InitArgs {
            passphrase_env: Some("NAME".into()),
            development: true,
            origin: Some("https://a".into()),
            ..args()
        };
        let config = parse(&configuration(&sealed).unwrap());
        assert_eq!(config.issuer.unlock, Unlock::Passphrase(Secret::Env("NAME".into())));
        assert_eq!(config.origins[0].as_str(), "https://a");
        assert_eq!(config.admin.listen.port(), 8401);
        assert_eq!(parse(&configuration(&remote_args()).unwrap()).issuer.kind, IssuerKind::Remote);
        for (issuer, root) in [("http://issuer.example.org", "11"), ("nonsense", "11"), ("https://a", "no key")] {
            let odd = InitArgs { issuer: Some(issuer.into()), root_key: Some(root.into()), ..remote_args() };
            assert!(
                Loaded::parse(Path::new("gateway.toml"), &configuration(&odd).unwrap()).is_err(),
                "{issuer} {root}"
            );
        }
    }
}
