//! Real proxies, each with the configuration in `examples/` in which only ports, paths and the secret are the test's.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{SECRET, World};

/// The secret in the examples.
const PLACEHOLDER: &str = "replace-this-by-32-random-bytes-in-hex";

/// A proxy of another make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
    Traefik,
    Envoy,
}

/// A running proxy.
pub(crate) struct Proxy {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx has workers, which end with it when it is asked to end.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let end = Instant::now() + Duration::from_secs(5);
        while asked.is_ok() && Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Kind {
    /// The program, or a word on why the test is skipped.
    #[allow(clippy::print_stderr)]
    pub(crate) fn program(self) -> Option<PathBuf> {
        let name = match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::Traefik => "traefik",
            Self::Envoy => "envoy",
        };
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-tools/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).chain([tools, PathBuf::from("/usr/sbin")]);
        let found = places.map(|place| place.join(name)).find(|program| program.is_file());
        if found.is_none() {
            eprintln!("SKIPPED: there is no {name} on this machine; .ci/run says how to get it");
        }
        found
    }

    /// Starts it in front of a world's service; waits until it answers.
    pub(crate) fn start(self, world: &World) -> Option<Proxy> {
        self.start_with(world, |text| text)
    }

    /// The same with a configuration that is changed first.
    pub(crate) fn start_with(self, world: &World, change: impl Fn(String) -> String) -> Option<Proxy> {
        let program = self.program()?;
        let dir = tempfile::tempdir().unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
        let copy = |name: &str| {
            let mut text = std::fs::read_to_string(examples.join(name)).unwrap();
            for (from, to) in ["8080", "8403", "8404", "9000"].iter().zip(world.ports()) {
                text = text.replace(from, &to.to_string());
            }
            text = text.replace(PLACEHOLDER, SECRET);
            text = text.replace("examples/traefik/", &format!("{}/", dir.path().display()));
            let text = change(text);
            let file = dir.path().join(Path::new(name).file_name().unwrap());
            std::fs::write(&file, text).unwrap();
            file
        };
        let mut command = Command::new(program);
        match self {
            Self::Nginx => {
                copy("nginx/halometer-secret.conf");
                command.arg("-p").arg(dir.path()).arg("-e").arg("stderr").arg("-c").arg(copy("nginx/nginx.conf"));
            }
            Self::Caddy => {
                command.arg("run").arg("--config").arg(copy("caddy/Caddyfile")).env("HOME", dir.path());
            }
            Self::Traefik => {
                copy("traefik/dynamic.yaml");
                command.arg(format!("--configFile={}", copy("traefik/traefik.yaml").display()));
            }
            Self::Envoy => {
                let base = world.ports()[0].to_string();
                command.arg("-c").arg(copy("envoy/envoy.yaml")).args(["--concurrency", "1", "--base-id", &base]);
                command.args(["--log-level", "warning"]);
            }
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).env("HALOMETER_SECRET", SECRET);
        let mut proxy = Proxy { child: command.spawn().unwrap(), _dir: dir };
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&world.host).is_err() {
            let ended = proxy.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{self:?} does not answer: {}", proxy.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        // Traefik listens before it has its routes.
        if self == Self::Traefik {
            std::thread::sleep(Duration::from_millis(500));
        }
        Some(proxy)
    }
}

impl Proxy {
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self._dir.path().join("log")).unwrap_or_default()
    }
}
