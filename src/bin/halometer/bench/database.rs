//! A database that gateways share, to measure: one that is named, or one that is started here and removed at the end.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::disk::Place;
use halometer::protocol::GatewayId;
use halometer::store::postgres::{PostgresOptions, PostgresStore};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

pub(super) struct Database {
    address: String,
    used: AtomicU32,
    /// Stopped before its files are removed.
    _server: Option<Server>,
}

struct Server {
    child: Child,
    stop: Command,
    _place: Place,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.status();
        let _ = self.child.wait();
    }
}

impl Database {
    /// By its address, or `postgres` for a server of our own on the disk of `dir`.
    pub(super) fn open(named: &str, dir: &Path) -> Outcome<Self> {
        let (address, server) = match named {
            "postgres" => {
                let (address, server) = start(dir)?;
                (address, Some(server))
            }
            address => (address.to_owned(), None),
        };
        Ok(Self { address, used: AtomicU32::new(0), _server: server })
    }

    /// An empty store in a schema of its own, which is left to the owner of a database that was named.
    pub(super) fn store(&self, gateway: GatewayId, bucket_seconds: u32) -> Outcome<PostgresStore> {
        let number = self.used.fetch_add(1, Ordering::Relaxed);
        let schema = format!("halometer_bench_{}_{number}", std::process::id());
        let config: tokio_postgres::Config = self.address.parse()?;
        let create = format!("CREATE SCHEMA {schema}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            client.batch_execute(&create).await?;
            drop(client);
            let _ = driver.await;
            Ok::<_, tokio_postgres::Error>(())
        })?;
        let search = format!("-c search_path={schema}");
        let address = match self.address.contains("://") {
            true => {
                let more = if self.address.contains('?') { '&' } else { '?' };
                format!("{}{more}options={}", self.address, search.replace(' ', "%20").replace('=', "%3D"))
            }
            false => format!("{} options='{search}'", self.address),
        };
        let options = PostgresOptions::new(&address)?.with_bucket_seconds(bucket_seconds);
        PostgresStore::migrate(&options, gateway, false)?;
        Ok(PostgresStore::open(&options, gateway)?)
    }
}

fn start(dir: &Path) -> Outcome<(String, Server)> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let bin =
        bins.max().ok_or("there is no PostgreSQL server in /usr/lib/postgresql: install one, or name its address")?;
    let place = Place::new(dir)?;
    let data = std::path::absolute(place.next())?;
    std::fs::create_dir(&data)?;
    let user = unprivileged()?;
    if let Some((uid, gid)) = user {
        own(&data, uid, gid)?;
    }
    let command = |program: &str| {
        let mut command = Command::new(bin.join(program));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/").env("LC_ALL", "C");
        as_user(&mut command, user);
        command
    };
    let init = command("initdb")
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
        .arg(&data)
        .status()?;
    if !init.success() {
        return Err("initdb failed: may its user reach this directory?".into());
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = command("postgres");
    server.arg("-D").arg(&data).arg("-p").arg(port.to_string());
    // Its own defaults but for memory, which are for machines of long ago.
    for setting in
        ["listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=256MB", "max_wal_size=4GB"]
    {
        server.arg("-c").arg(setting);
    }
    let mut stop = command("pg_ctl");
    stop.args(["stop", "-m", "fast", "-w", "-s", "-D"]).arg(&data);
    let server = Server { child: server.spawn()?, stop, _place: place };
    let deadline = Instant::now() + START;
    while !command("pg_isready").args(["-q", "-h", "127.0.0.1", "-p"]).arg(port.to_string()).status()?.success() {
        if Instant::now() > deadline {
            return Err("the server does not start".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((format!("host=127.0.0.1 port={port} user=postgres dbname=postgres"), server))
}

/// The user that a server runs as where this program is root, which a server refuses to be.
#[cfg(unix)]
fn unprivileged() -> Outcome<Option<(u32, u32)>> {
    use std::os::unix::fs::MetadataExt as _;
    let own = Path::new("/proc/self");
    if own.metadata().map_or(1, |own| own.uid()) != 0 {
        return Ok(None);
    }
    let known = std::fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let mut fields = known.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Ok(Some(ids("postgres").or_else(|| ids("nobody")).ok_or("there is no unprivileged user to run a server as")?))
}

#[cfg(unix)]
fn own(path: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}

#[cfg(unix)]
fn as_user(command: &mut Command, user: Option<(u32, u32)>) {
    use std::os::unix::process::CommandExt as _;
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
}

#[cfg(not(unix))]
fn unprivileged() -> Outcome<Option<(u32, u32)>> {
    Ok(None)
}

#[cfg(not(unix))]
fn own(_: &Path, _: u32, _: u32) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn as_user(_: &mut Command, _: Option<(u32, u32)>) {}
