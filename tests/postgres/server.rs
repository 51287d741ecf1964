//! Servers of the tests' own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use halometer::protocol::GatewayId;
use halometer::store::postgres::{Concession, PostgresOptions, PostgresStore};

pub(crate) const GATEWAY: GatewayId = GatewayId::from_bytes([4; 16]);

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").exists())
        .collect();
    found.sort();
    let bin = found.pop().map(|(_, bin)| bin);
    if bin.is_none() {
        let missing = "skipped: there is no PostgreSQL server in /usr/lib/postgresql/*/bin";
        assert!(std::env::var("CI").is_err(), "{missing}");
        eprintln!("{missing}");
    }
    bin
}

/// The user that servers run as: they refuse to be root.
fn user() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").ok()?;
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let ids = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("there is an unprivileged user"))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").current_dir("/");
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// A server.
pub(crate) struct Server {
    bin: PathBuf,
    dir: PathBuf,
    pub(crate) port: u16,
    settings: std::sync::Mutex<Vec<String>>,
    child: std::sync::Mutex<Option<Child>>,
    /// While it is open, the server may run.
    _leash: Option<ChildStdin>,
}

static SCHEMAS: AtomicU32 = AtomicU32::new(0);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A place that the servers' user may write to.
fn place() -> PathBuf {
    let dir = tempfile::Builder::new().prefix("halometer-pg").tempdir().unwrap().keep();
    if let Some((uid, gid)) = user() {
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

impl Server {
    /// A new one, in a directory of its own. None where there are no programs.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let bin = programs()?;
        let dir = place();
        let init = command(&bin.join("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(dir.join("data"))
            .status();
        assert!(init.unwrap().success(), "initdb");
        Some(Self::over(bin, dir, settings))
    }

    fn over(bin: PathBuf, dir: PathBuf, settings: &[&str]) -> Self {
        // When this process ends, its end of the pipe is closed: then the server goes, and its directory.
        let script = "read _; kill -QUIT $(head -1 \"$1/data/postmaster.pid\"); sleep 1; rm -rf \"$1\"";
        let mut watcher = Command::new("sh");
        watcher.args(["-c", script, "sh"]).arg(&dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let leash = watcher.spawn().unwrap().stdin.take();
        let mut settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        if !settings.iter().any(|setting| setting.starts_with("fsync")) {
            settings.push("fsync=off".into());
        }
        let settings = std::sync::Mutex::new(settings);
        let server = Self { bin, dir, port: free_port(), settings, child: std::sync::Mutex::default(), _leash: leash };
        server.run();
        server
    }

    /// A standby of it, as of now.
    pub(crate) fn standby(&self, name: &str) -> Self {
        let dir = place();
        let status = command(&self.bin.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-X", "stream", "-c", "fast", "--no-sync", "-R", "-p"])
            .arg(self.port.to_string())
            .arg("-d")
            .arg(format!("application_name={name}"))
            .arg("-D")
            .arg(dir.join("data"))
            .status();
        assert!(status.unwrap().success(), "pg_basebackup");
        Self::over(self.bin.clone(), dir, &[])
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts it where it was, and waits for it.
    pub(crate) fn run(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut postgres = command(&self.bin.join("postgres"));
            let socket = format!("unix_socket_directories={}", self.dir.display());
            let quiet = [
                "listen_addresses=127.0.0.1",
                "shared_buffers=32MB",
                "max_wal_size=256MB",
                "wal_level=replica",
                &socket,
            ];
            postgres.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
            let own = self.settings.lock().unwrap().clone();
            for setting in quiet.into_iter().chain(own.iter().map(String::as_str)) {
                postgres.arg("-c").arg(setting);
            }
            let mut child = postgres.spawn().unwrap();
            while Instant::now() < deadline {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if self.ready() {
                    *self.child.lock().unwrap() = Some(child);
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            // What was killed may still hold its memory.
            assert!(Instant::now() < deadline, "the server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Sets something for its next start.
    pub(crate) fn set(&self, setting: &str) {
        self.settings.lock().unwrap().push(setting.to_owned());
    }

    /// Puts a file into its directory that it alone may read.
    pub(crate) fn give(&self, file: &Path, name: &str) {
        let to = self.data().join(name);
        fs::copy(file, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = user() {
            chown(&to, Some(uid), Some(gid)).unwrap();
        }
    }

    fn ready(&self) -> bool {
        let status = command(&self.bin.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p"])
            .arg(self.port.to_string())
            .status();
        status.is_ok_and(|status| status.success())
    }

    /// Kills it, as the system does when it runs out of memory.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in good order.
    pub(crate) fn stop(&self) {
        let mut stop = command(&self.bin.join("pg_ctl"));
        stop.args(["stop", "-m", "fast", "-w", "-s", "-D"]).arg(self.data());
        let _ = stop.status();
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.wait();
        }
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        let mut promote = command(&self.bin.join("pg_ctl"));
        promote.args(["promote", "-w", "-s", "-D"]).arg(self.data());
        assert!(promote.status().unwrap().success(), "promote");
    }

    /// Copies what is on disk while it does not run.
    pub(crate) fn copy(&self) -> PathBuf {
        let to = self.dir.join(format!("copy{}", SCHEMAS.fetch_add(1, Ordering::Relaxed)));
        let status = command(Path::new("/bin/cp")).arg("-a").arg(self.data()).arg(&to).status();
        assert!(status.unwrap().success(), "cp");
        to
    }

    /// Puts a copy back.
    pub(crate) fn put_back(&self, copy: &Path) {
        fs::remove_dir_all(self.data()).unwrap();
        fs::rename(copy, self.data()).unwrap();
    }

    pub(crate) fn sql(&self, sql: &str) -> bool {
        let status = command(&self.bin.join("psql"))
            .args(["-q", "-h", "127.0.0.1", "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-p"])
            .arg(self.port.to_string())
            .args(["-c", sql])
            .status();
        status.unwrap().success()
    }

    /// Options for a new place in it, without tables, over some port.
    pub(crate) fn options_at(&self, port: u16, schema: &str) -> PostgresOptions {
        let address = format!(
            "host=127.0.0.1 port={port} user=postgres dbname=postgres options='-c search_path={schema}' connect_timeout=2"
        );
        PostgresOptions::new(&address).unwrap().accepting(Concession::FsyncOff).with_patience(Duration::from_secs(8))
    }

    /// Options for a new place in it, with the tables.
    pub(crate) fn place(&self) -> (PostgresOptions, String) {
        let schema = format!("place{}", SCHEMAS.fetch_add(1, Ordering::Relaxed));
        assert!(self.sql(&format!("CREATE SCHEMA {schema}")));
        let options = self.options_at(self.port, &schema);
        PostgresStore::migrate(&options, GATEWAY, false).unwrap();
        (options, schema)
    }

    /// A store in a new place.
    pub(crate) fn store(&self) -> PostgresStore {
        PostgresStore::open(&self.place().0, GATEWAY).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One for all tests that do not harm it.
pub(crate) fn shared() -> Option<Arc<Server>> {
    static SHARED: OnceLock<Option<Arc<Server>>> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&["max_connections=400"]).map(Arc::new)).clone()
}

/// The server, or the end of the test.
macro_rules! or_skip {
    ($server:expr) => {
        match $server {
            Some(server) => server,
            None => return,
        }
    };
}
pub(crate) use or_skip;
