//! Which wallet, and what opens it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::network::{COMMON, Network};
use super::trouble::Trouble;
use halometer::sealed::{Lock, make_private, read_bounded};
use halometer::wallet::Wallet;
use halometer::wallet::file::{FileJournal, WalletFile};

/// Longest file that a passphrase is read from, bytes.
const LONGEST_PASSPHRASE: usize = 4096;

/// Which wallet, and how it is opened.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The wallet's file; without it `halometer/wallet` in $XDG_DATA_HOME or ~/.local/share.
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON)]
    pub wallet: Option<PathBuf>,

    /// Where this device keeps the seats of its wallets, by which a copied file is known; without it `halometer/seats` in
    /// $XDG_STATE_HOME or ~/.local/state. Always the same, and never on a disk that is shared or put back from backups.
    #[arg(long, value_name = "DIR", global = true, help_heading = COMMON)]
    pub seats: Option<PathBuf>,

    /// Read the passphrase from the first line of this file. Without it and --key-file it is asked for on the terminal.
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON, conflicts_with = "key_file")]
    pub passphrase_file: Option<PathBuf>,

    /// Open the wallet with the key in this file: 32 random bytes.
    #[arg(long, value_name = "FILE", global = true, help_heading = COMMON)]
    pub key_file: Option<PathBuf>,

    /// Print one JSON value on standard output. Amounts in it are text, as they may not fit a number; times are seconds since 1970.
    #[arg(long, global = true, help_heading = COMMON)]
    pub json: bool,

    /// How others are reached.
    #[command(flatten)]
    pub network: Network,
}

impl Place {
    /// The wallet's file.
    pub(super) fn file(&self) -> Result<WalletFile, Trouble> {
        let path = self.path()?;
        match &self.seats {
            Some(seats) => Ok(WalletFile::with_seats(path, seats)),
            None => Ok(WalletFile::new(path)?),
        }
    }

    /// The wallet's file, which is there: it is looked for before anybody is asked for a passphrase.
    pub(super) fn existing(&self) -> Result<WalletFile, Trouble> {
        let file = self.file()?;
        if file.path().exists() {
            return Ok(file);
        }
        let missing = halometer::wallet::file::WalletFileError::Missing;
        let what = format!("{}: {missing}", file.path().display());
        Err(Trouble::from(missing).what_is(what))
    }

    /// Where a new file is to be: its directory is made if nobody said where.
    pub(super) fn new_file(&self) -> Result<WalletFile, Trouble> {
        let file = self.file()?;
        if self.wallet.is_none()
            && let Some(directory) = file.path().parent()
        {
            make_private(directory).map_err(|error| Trouble::disk(directory, &error))?;
        }
        Ok(file)
    }

    fn path(&self) -> Result<PathBuf, Trouble> {
        match &self.wallet {
            Some(path) => Ok(path.clone()),
            None => default_path().ok_or_else(|| {
                Trouble::yours("there is no place for a wallet: neither XDG_DATA_HOME nor HOME is set")
                    .next("name its file with --wallet")
            }),
        }
    }

    /// What opens it.
    pub(super) fn lock(&self) -> Result<Lock, Trouble> {
        self.obtain("Passphrase of the wallet: ", false)
    }

    /// What is to open a wallet that is being made. A passphrase is asked for twice.
    pub(super) fn new_lock(&self) -> Result<Lock, Trouble> {
        self.obtain("Passphrase for the new wallet: ", true)
    }

    /// Opens it.
    pub(crate) fn open(&self) -> Result<Wallet<FileJournal>, Trouble> {
        let file = self.existing()?;
        Ok(file.open(&self.lock()?)?)
    }

    fn obtain(&self, prompt: &str, twice: bool) -> Result<Lock, Trouble> {
        self.passphrase_file.iter().chain(&self.key_file).for_each(|path| warn_if_open(path));
        if let Some(path) = &self.key_file {
            return Lock::key_file(path).map_err(|error| {
                Trouble::yours(format!("{}: {error}", path.display())).next("name the right file with --key-file")
            });
        }
        let passphrase = match &self.passphrase_file {
            Some(path) => from_file(path)?,
            None => ask(prompt, twice)?,
        };
        Lock::passphrase(&passphrase).map_err(|error| Trouble::yours(error.to_string()).next("give one"))
    }
}

/// What opens a wallet is its owner's alone.
fn warn_if_open(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
        if path.is_file() && mode & 0o077 != 0 {
            let who = if mode & 0o007 != 0 { "every user of this machine" } else { "a group of users" };
            let path = path.display();
            eprintln!("halometer: {path} opens the wallet, and {who} has access to it: chmod 600 {path}");
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn default_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("halometer").join("wallet"))
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Trouble> {
    let next = "name a file that holds the passphrase and nothing else with --passphrase-file";
    let bytes = read_bounded(path, LONGEST_PASSPHRASE).map_err(|error| Trouble::disk(path, &error).next(next))?;
    let text = core::str::from_utf8(&bytes)
        .map_err(|_| Trouble::yours(format!("{}: the passphrase is not UTF-8 text", path.display())).next(next))?;
    // The end of the line is the editor's and not the passphrase's.
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.contains(['\n', '\r']) {
        return Err(Trouble::yours(format!("{}: there is more than one line", path.display())).next(next));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Asks on the terminal, whatever standard input is.
fn ask(prompt: &str, twice: bool) -> Result<Zeroizing<String>, Trouble> {
    let next = "run it in a terminal, or give --passphrase-file or --key-file";
    let read = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|_| Trouble::yours("there is no terminal to ask for the passphrase on").next(next))
    };
    let passphrase = read(prompt)?;
    if twice && passphrase != read("Once more: ")? {
        return Err(Trouble::yours("the two passphrases are not the same").next("try again"));
    }
    Ok(passphrase)
}

/// Whether somebody sits there.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}
