//! What went wrong: whose fault it is, whether credit is safe, and what to do next.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::say::{self, CannotSay};
use halometer::http::cause::chain;
use halometer::http::payer::{CallError, ClientError, CreditState, PayerError, Stopped, clocks_off};
use halometer::protocol::{DirectoryError, Fault};
use halometer::wallet::file::WalletFileError;
use halometer::wallet::{AcceptMintError, JournalError, OpenError, PaymentError};

/// An error of a command.
#[derive(Debug)]
pub(crate) struct Trouble {
    what: String,
    fault: Fault,
    credit: CreditState,
    next: String,
    /// What the program ends with.
    code: u8,
}

/// What a program ends with that was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;
/// What to do when a disk does not do its part.
const DISK: &str = "look to the disk, its room and who may write there, then run the command again";
/// What to do with a file that is not the one that was used last.
const COPIED: &str = "use the wallet where it was last, and move it with export and import; only if no other copy will ever run \
                      again, `halometer wallet doctor --adopt`";

impl Trouble {
    /// Of the wallet's owner, or the owner's machine; nothing was sent.
    pub(crate) fn yours(what: impl Into<String>) -> Self {
        Self::new(what, Fault::Caller)
    }

    pub(super) fn new(what: impl Into<String>, fault: Fault) -> Self {
        let next = "run the command again".to_owned();
        Self { what: what.into(), fault, credit: CreditState::Untouched, next, code: 2 }
    }

    /// By its owner.
    pub(super) fn interrupted(credit: CreditState) -> Self {
        let next = match credit {
            CreditState::Untouched => "run the command again; nothing was begun",
            _ => {
                "the next call finishes what was begun, and it is charged once; `halometer wallet lanes` shows what is awaited, \
                 `halometer wallet cancel` gets it back now; a `fund` is run again as it was, and the credit comes once"
            }
        };
        Self { code: INTERRUPTED, ..Self::yours("interrupted").credit(credit).next(next) }
    }

    /// The same in other words.
    pub(super) fn what_is(self, what: impl ToString) -> Self {
        Self { what: what.to_string(), ..self }
    }

    /// A file or directory that cannot be read or written.
    pub(crate) fn disk(path: &Path, error: &io::Error) -> Self {
        Self::yours(format!("{}: {error}", path.display())).next(DISK)
    }

    pub(crate) fn next(self, next: impl Into<String>) -> Self {
        Self { next: next.into(), ..self }
    }

    pub(super) fn credit(self, credit: CreditState) -> Self {
        Self { credit, ..self }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn fault(&self) -> Fault {
        self.fault
    }

    pub(super) fn to_do(&self) -> &str {
        &self.next
    }

    /// Tells it, on standard error, and as JSON on standard output if that was asked for. Gives the exit code.
    pub(crate) fn tell(&self, as_json: bool) -> ExitCode {
        let Self { what, fault, credit, next, code } = self;
        if as_json {
            let mut value = json!({
                "error": what,
                "fault": fault_name(*fault),
                "credit": credit_name(credit),
                "next": next,
            });
            let most = clocks_off().into_iter().max_by_key(|off| off.ahead_seconds().unsigned_abs());
            if let (Some(off), Some(fields)) = (most, value.as_object_mut()) {
                fields.insert("clock_ahead_seconds".to_owned(), off.ahead_seconds().into());
                fields.insert("clock_of".to_owned(), off.origin().into());
            }
            if let (CreditState::Spent(accepted), Some(fields)) = (credit, value.as_object_mut()) {
                fields.insert("charge".to_owned(), say::amount(accepted.charge));
                fields.insert("cost".to_owned(), say::amount(accepted.cost));
            }
            // There is nobody left to tell that it cannot be told.
            let _ = say::say(true, &value, []);
        }
        eprintln!("halometer: {what}");
        for off in clocks_off() {
            eprintln!("  clock:   {off}: put the wrong one right, which may be all that is wrong");
        }
        eprintln!("  fault:   {}", fault_words(*fault));
        eprintln!("  credit:  {}", credit_words(credit));
        eprintln!("  next:    {next}");
        ExitCode::from(*code)
    }
}

/// For scripts.
pub(super) const fn fault_name(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "caller",
        Fault::Operator => "operator",
        Fault::Nobody => "nobody",
        _ => "unknown",
    }
}

pub(super) const fn fault_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Caller => "yours, or this machine's",
        Fault::Operator => "the gateway's or the issuer's",
        Fault::Nobody => "nobody's: it passes",
        _ => "unknown",
    }
}

const fn credit_name(credit: &CreditState) -> &'static str {
    match credit {
        CreditState::Untouched => "untouched",
        CreditState::Safe => "safe",
        CreditState::Spent(_) => "spent",
        CreditState::Disputed => "disputed",
        CreditState::Elsewhere => "elsewhere",
        _ => "unknown",
    }
}

fn credit_words(credit: &CreditState) -> String {
    match credit {
        CreditState::Untouched => "untouched: nothing was spent".to_owned(),
        CreditState::Safe => "safe: what was sent and does not cost anything comes back".to_owned(),
        CreditState::Spent(accepted) => format!("{} of {} micro-credits were spent", accepted.cost, accepted.charge),
        CreditState::Elsewhere => {
            "elsewhere: another copy of this wallet has spent the note and has its change".to_owned()
        }
        CreditState::Disputed => "in dispute: the evidence is kept, and the right settlement asked for".to_owned(),
        _ => "unknown: `halometer wallet history` has what was written down".to_owned(),
    }
}

impl From<CannotSay> for Trouble {
    fn from(error: CannotSay) -> Self {
        Self::yours(error.to_string()).next("look to where it goes")
    }
}

impl From<WalletFileError> for Trouble {
    fn from(error: WalletFileError) -> Self {
        use WalletFileError as E;
        let (fault, next) = match &error {
            E::Exists => (Fault::Caller, "choose another name; nothing is ever overwritten"),
            E::Missing => (Fault::Caller, "name the right file; `halometer wallet new` makes a wallet"),
            E::NotAWallet => (Fault::Caller, "name the right file"),
            E::Version(_) => (Fault::Caller, "use the program that wrote it, or a newer one"),
            E::Lock(_) => (Fault::Caller, "try again with the right passphrase or key file"),
            E::InUse => (Fault::Nobody, "wait for the other program to end, or end it"),
            E::Copied => (Fault::Caller, COPIED),
            E::RolledBack { .. } => (
                Fault::Caller,
                "put the newest file back; only if it is lost and no other copy will ever run again, \
                 `halometer wallet doctor --adopt`",
            ),
            E::Moved => (Fault::Caller, "import the file on the other device; the same export can be run again"),
            E::OtherArrival => (Fault::Caller, "export to the code that it was moved to"),
            E::Code => (Fault::Caller, "copy the code from `halometer wallet import --prepare` again"),
            E::NoArrival => (
                Fault::Caller,
                "import it on the device that made the code, with the same --seats; it can be done once",
            ),
            E::Bundle(_) => (Fault::Caller, "copy the file again, or export again to the same code"),
            E::Damaged(_) => (
                Fault::Caller,
                "put the newest backup back, and then, if no other copy will ever run again, `halometer wallet doctor --adopt`",
            ),
            E::NoSeats => (Fault::Caller, "name a directory with --seats"),
            E::Wallet(_) => (Fault::Operator, "`halometer wallet doctor`"),
            _ => (Fault::Caller, DISK),
        };
        // Whatever is wrong with a file, its notes are where they were.
        Self::new(chain(&error), fault).next(next)
    }
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::yours(chain(&error)).credit(CreditState::Safe).next(DISK)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        let (fault, next) = match &error {
            ClientError::Problem(details) => {
                let fault = details.kind().map_or(Fault::Operator, halometer::protocol::Problem::fault);
                (fault, "look at what is said, and run the command again")
            }
            ClientError::Http(error) if error.is_of_proxy() => {
                (Fault::Caller, "start the proxy, Tor for instance, or correct --socks5; nothing is ever sent past it")
            }
            ClientError::Http(_) | ClientError::Timeout => {
                (Fault::Nobody, "look at the address and the network, and run the command again")
            }
            ClientError::Tls(_) => (Fault::Caller, "look to this machine's network and certificates"),
            _ => (Fault::Operator, "look whether the address is the right one; else tell who runs it"),
        };
        Self::new(chain(&error), fault).next(next)
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Journal(error) => error.into(),
            OpenError::Directory(DirectoryError::Contradiction) => {
                Self::new("the issuer shows different callers different directories", Fault::Operator).next(
                    "make no more calls; `halometer wallet disputes --save DIR` has the evidence for others to see",
                )
            }
            error => Self::new(format!("the directory is refused: {}", chain(&error)), Fault::Operator)
                .next("compare the root key with the one that the issuer publishes"),
        }
    }
}

impl From<PaymentError> for Trouble {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::Journal(error) => error.into(),
            error => Self::yours(error.to_string()).next("give the amount that was paid"),
        }
    }
}

impl From<AcceptMintError> for Trouble {
    fn from(error: AcceptMintError) -> Self {
        match error {
            AcceptMintError::Journal(error) => error.into(),
            error => Self::new(format!("the wallet refuses what was minted: {error}"), Fault::Operator)
                .next("run the command again; if it stays so, tell the issuer"),
        }
    }
}

impl From<PayerError> for Trouble {
    fn from(error: PayerError) -> Self {
        let (fault, next) = match error {
            PayerError::Client(error) => return error.into(),
            PayerError::Directory(error) => return error.into(),
            PayerError::UnknownClass(_) => (Fault::Caller, "choose one of the directory: `halometer wallet doctor`"),
            PayerError::Unlisted => (Fault::Caller, "choose another gateway: `halometer wallet doctor` lists them"),
            PayerError::OtherDirectory { .. } => (
                Fault::Operator,
                "make no call there; it goes by an older directory, or by one for you alone: `halometer wallet doctor`",
            ),
            PayerError::Origin(_) => (Fault::Operator, "tell the issuer"),
            PayerError::Threads(_) => (Fault::Caller, "look to this machine's memory"),
            _ => (Fault::Nobody, "run the command again"),
        };
        Self::new(chain(&error), fault).next(next)
    }
}

impl From<Stopped> for Trouble {
    fn from(error: Stopped) -> Self {
        Self::new(error.to_string(), Fault::Nobody).credit(CreditState::Safe)
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::new(chain(&error), error.fault()).credit(error.credit()).next(error.next())
    }
}
