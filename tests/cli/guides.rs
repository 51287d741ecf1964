//! The guides, followed to the letter: a shell runs each command as it stands on its page. What is not as there: ports are free ones,
//! passphrases are in a file, `cargo halometer` is the program that was built for the tests, and what a reader pastes is pasted.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::gateway::until;

/// The service behind, the gateway, its operator's address, the proxy: as the guides have them. Then the gateway elsewhere, which has
/// the same ones as the first on another machine.
const PORTS: [u16; 4] = [9000, 8400, 8401, 8402];

/// A reader at a terminal.
struct Reader {
    place: TempDir,
    ports: [u16; 5],
    /// What the reader has started, each with all that it has started.
    started: Vec<Child>,
}

/// Free ports; each gateway's next one, its operator's address, is free as well.
fn free_ports() -> [u16; 5] {
    let bind = |port| TcpListener::bind(("127.0.0.1", port));
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (service, proxy) = (bind(0).unwrap(), bind(0).unwrap());
    let pair = || {
        let both = core::iter::repeat_with(|| bind(0).unwrap()).find_map(|first| {
            let second = bind(port(&first).checked_add(1)?).ok()?;
            Some([first, second])
        });
        both.unwrap()
    };
    let [[gateway, admin], [away, _admin]] = [pair(), pair()];
    [&service, &gateway, &admin, &proxy, &away].map(port)
}

/// Whether all is there that the guides take for granted.
#[expect(clippy::print_stderr, reason = "the tests' output must say what was not tested")]
fn can_read() -> bool {
    let missing = ["bash", "curl", "python3", "openssl"].into_iter().find(|program| {
        let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_err()
    });
    if let Some(program) = missing {
        eprintln!("skipped: there is no {program} here");
    }
    missing.is_none()
}

/// The commands of a part of a page, block by block.
fn blocks(page: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let part = text.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("{page} has no {heading}")).1;
    let part = part.split("\n## ").next().unwrap();
    let blocks = part.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

impl Reader {
    /// None where not all is there that the guides take for granted.
    fn new() -> Option<Self> {
        if !can_read() {
            return None;
        }
        let (place, ports) = (tempfile::tempdir().unwrap(), free_ports());
        fs::create_dir(place.path().join("bin")).unwrap();
        fs::write(place.path().join("passphrase"), "correct horse battery staple").unwrap();
        let shim = format!(
            "#!/bin/bash\n[ \"$1\" = halometer ] && shift\nmore=()\ncase \"$1 $2\" in\n  \
             'wallet '*) more=(--passphrase-file '{place}/passphrase') ;;\n  \
             'proxy '*) more=(--passphrase-file '{place}/passphrase' --listen 127.0.0.1:{proxy}) ;;\n  \
             'gateway init') case \"$3\" in away) more=(--listen 127.0.0.1:{away}) ;; *) more=(--listen 127.0.0.1:{gateway}) ;; esac ;;\nesac\nexec '{program}' \"$@\" \"${{more[@]}}\"\n",
            place = place.path().display(),
            program = env!("CARGO_BIN_EXE_halometer"),
            gateway = ports[1],
            away = ports[4],
            proxy = ports[3],
        );
        let path = place.path().join("bin/cargo");
        fs::write(&path, shim).unwrap();
        assert!(Command::new("chmod").arg("+x").arg(path).status().unwrap().success());
        Some(Self { place, ports, started: Vec::new() })
    }

    /// Types a block into a new terminal; its output goes to a file.
    fn begin(&mut self, block: &str) -> (usize, std::path::PathBuf) {
        let ports = PORTS.iter().zip(self.ports);
        let block =
            ports.fold(block.to_owned(), |block, (from, to)| block.replace(&format!(":{from}"), &format!(":{to}")));
        let block = block.replace("\", 9000)", &format!("\", {})", self.ports[0]));
        let index = self.started.len();
        let said = self.place.path().join(format!("said-{index}"));
        let file = File::create(&said).unwrap();
        let path = format!("{}:{}", self.place.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &block]).current_dir(&self.place).env("PATH", path);
        command.env("NO_PROXY", "*").env("XDG_STATE_HOME", self.place.path().join("state"));
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        self.started.push(command.spawn().unwrap());
        (index, said)
    }

    /// Types a block and waits until it is done.
    #[track_caller]
    fn run(&mut self, block: &str) -> String {
        let (done, said) = self.try_run(block);
        assert!(done, "{block}\n{said}");
        said
    }

    /// The same, with what came of it.
    fn try_run(&mut self, block: &str) -> (bool, String) {
        let (index, said) = self.begin(block);
        let status = self.started[index].wait().unwrap();
        (status.success(), fs::read_to_string(said).unwrap())
    }

    /// Types a block that is left running, and reads until it has said something.
    #[track_caller]
    fn leave(&mut self, block: &str, telling: &str) -> String {
        let (_, said) = self.begin(block);
        until(telling, || fs::read_to_string(&said).ok().filter(|text| text.contains(telling)))
    }

    #[track_caller]
    fn wait_for_port(&self, which: usize) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports[which]));
        until("a port", || TcpStream::connect(address).ok());
    }

    /// Ctrl-C in a terminal.
    fn interrupt(&mut self, terminal: usize) {
        let child = &mut self.started[terminal];
        signal(child, "-INT");
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// To all that was started in one terminal.
fn signal(child: &Child, signal: &str) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
}

impl Drop for Reader {
    fn drop(&mut self) {
        for child in &mut self.started {
            signal(child, "-KILL");
            let _ = child.wait();
        }
    }
}

/// The word after a name in a list that was printed.
fn after<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}")).trim()
}

#[test]
fn a_paid_api_in_ten_minutes() {
    let Some(mut reader) = Reader::new() else { return };
    let blocks = blocks("docs/gateway.md", "From nothing to a paid API");
    let [service, init, run, unpaid, pay, call, notice] = &blocks[..] else { panic!("{blocks:#?}") };
    reader.run(service);
    reader.wait_for_port(0);
    reader.run(init);
    let told = reader.leave(run, "\ngateway  ");
    let root = after(&told, "root key").to_owned();
    let refused = reader.run(unpaid);
    assert!(refused.contains("HTTP/1.1 402") && refused.contains("www-authenticate: Payment "), "{refused}");
    let paid = reader.run(pay);
    let payment = paid.split('"').find(|part| part.len() == 64).unwrap_or_else(|| panic!("{paid}")).to_owned();
    let said = reader.run(&call.replace("ROOT_KEY", &root).replace("PAYMENT", &payment));
    for told in ["Because.", "264", "799,736"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    // The third terminal is the gateway's.
    reader.interrupt(2);

    // The real thing.
    fs::rename(reader.place.path().join("shop"), reader.place.path().join("tried")).unwrap();
    reader.run(&init.replace(" --development", " --origin https://api.example.org"));
    reader.leave(run, "\ngateway  ");
    let noticed = reader.run(&notice.replace("https://api.example.org/", &format!("http://127.0.0.1:{}/", PORTS[1])));
    assert!(noticed.contains("\"recorded\""), "{noticed}");
}

#[test]
fn a_wallet_of_your_own_and_the_proxy_before_it() {
    let Some(mut reader) = Reader::new() else { return };
    let wallet = blocks("README.md", "A wallet of your own");
    let [serve, commands, proxy] = &wallet[..] else { panic!("{wallet:#?}") };
    let told = reader.leave(serve, "AMOUNT=");
    let lines: Vec<_> =
        told.lines().filter(|line| line.split_once('=').is_some_and(|(name, _)| is_name(name))).collect();
    assert_eq!(lines.len(), 4, "{told}");
    let said = reader.run(&format!("{}\n{commands}", lines.join("\n")));
    assert!(said.contains("nullifier"), "{said}");

    let steps = blocks("docs/proxy.md", "Step by step");
    let [start, call, point, status] = &steps[..] else { panic!("{steps:#?}") };
    assert_eq!(start, proxy);
    reader.leave(start, "Ctrl-C ends it");
    let answer = reader.run(call);
    assert!(answer.contains("HTTP/1.1 200") && answer.contains("halometer-cost: "), "{answer}");
    let streamed = call.replace("curl -i", "curl -N").replace("{\"model\"", "{\"stream\":true,\"model\"");
    assert!(reader.run(&streamed).contains("data: [DONE]"));
    let again =
        format!("{point}\ncurl -sS $OPENAI_BASE_URL/models -H \"Authorization: Bearer $OPENAI_API_KEY\" -o /dev/null");
    reader.run(&again);
    assert!(reader.run(status).contains("balance"));
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn a_gateway_elsewhere_step_by_step() {
    let Some(mut reader) = Reader::new() else { return };
    let shop = blocks("docs/gateway.md", "From nothing to a paid API");
    reader.run(&shop[0]);
    reader.wait_for_port(0);
    reader.run(&shop[1]);
    let told = reader.leave(&shop[2], "\ngateway  ");
    let root = after(&told, "root key").to_owned();

    let steps = blocks("docs/remote.md", "With the program");
    let [init, run] = &steps[..] else { panic!("{steps:#?}") };
    let own = format!("http://127.0.0.1:{}", reader.ports[4]);
    let init = init.replace("ROOT_KEY", &root).replace("https://api.example.net", &own);
    let said = reader.run(&init.replace("https://issuer.example.org", &format!("http://127.0.0.1:{}", PORTS[1])));
    let (_, section) = said.split_once("configuration:\n\n").unwrap_or_else(|| panic!("{said}"));
    let section = section.split("\n\n").next().unwrap();
    let path = reader.place.path().join("shop/gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{section}\n")).unwrap();

    let (check, run) = run.split_once('\n').unwrap();
    let named = Instant::now();
    let checked = loop {
        let (done, said) = reader.try_run(check);
        if done {
            break said;
        }
        assert!(named.elapsed() < Duration::from_secs(60), "{said}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(checked.contains(&format!("names this gateway, as {own}")), "{checked}");
    let told = reader.leave(run, "\ngateway  ");
    assert_eq!(after(&told, "root key"), root);
    let refused = reader.run(&shop[3].replace(":8400", &format!(":{}", reader.ports[4])));
    assert!(refused.contains("HTTP/1.1 402"), "{refused}");
}
