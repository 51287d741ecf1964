//! `halometer wallet`: a wallet at the command line. Each command is a program's run by itself: it opens the wallet's file, does
//! one thing, and closes it, and whatever ends it early is made good for by the next.

mod birth;
mod call;
mod cancel;
mod disputes;
mod doctor;
mod fund;
mod history;
mod key;
mod look;
pub(super) mod network;
pub(super) mod online;
mod place;
mod progress;
mod restore;
pub(super) mod say;
mod travel;
pub(super) mod trouble;
mod words;

use std::process::ExitCode;

pub use birth::NewArgs;
pub use call::CallArgs;
pub use cancel::CancelArgs;
pub use disputes::DisputesArgs;
pub use doctor::DoctorArgs;
pub use fund::FundArgs;
pub use history::HistoryArgs;
pub use key::KeyArgs;
pub use place::Place;
pub use restore::RestoreArgs;
pub use travel::{ExportArgs, ImportArgs};

use trouble::Trouble;

type Outcome = Result<ExitCode, Trouble>;

/// Of an issuer whose directories may follow each other too fast.
const DEVELOPMENT: &str =
    "the issuer may publish a directory every few seconds, and so mark its callers: for trying things out only";

/// The arguments of `halometer wallet`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which wallet, and how it is opened.
    #[command(flatten)]
    pub place: Place,

    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a wallet. Amounts are micro-credits.
///
/// The exit code is 2 after an error, which says who is at fault, whether credit is safe, and what to do next; with --json it is an
/// object on standard output with the same in `error`, `fault`, `credit` and `next`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// Make a wallet for an issuer's credit.
    ///
    /// Fetches the issuer's directory and goes by it only if the root key has signed it. Nothing is ever overwritten.
    New(NewArgs),
    /// Show the root secret as 24 words, from which `restore` makes the wallet again. Asks nobody.
    Words,
    /// Make the wallet again from its 24 words, when its file is lost.
    ///
    /// Asks the issuer which payments are the words', and issuer and gateways how far each lane was spent; believes what is signed. You
    /// state that the lost wallet will never run again. For some hours nothing of before is spent. Interrupted at any point it can be
    /// run again. The exit code is 1 if something was not brought back.
    Restore(RestoreArgs),
    /// Turn a payment into credit.
    ///
    /// Interrupted at any point it can be run again, with the same payment and amount: the credit comes once. Talks to the issuer,
    /// which knows who pays, and to no gateway; it is well not to make the first call at once.
    Fund(FundArgs),
    /// Say what the wallet is worth. Asks nobody.
    Balance,
    /// Say what each lane is worth and does. Asks nobody.
    Lanes,
    /// Make a request to a gateway and pay for it.
    ///
    /// The answer's body goes to standard output, what it cost to standard error. The exit code is 0 for an answer of success, 1
    /// if the call was paid for and the answer is another or was lost, and 2 after an error.
    Call(CallArgs),
    /// List what was spent, newest first. Asks nobody: this is in the wallet's file alone.
    History(HistoryArgs),
    /// Give programs keys for `halometer proxy --keys`, each with a budget of its own: new, list, revoke.
    ///
    /// A key lets its user spend some of the wallet's credit through the proxy, and nothing else. Asks nobody, and opens no wallet.
    Key(KeyArgs),
    /// Get back what is in flight: ask for its settlement, or cancel it.
    ///
    /// The exit code is 0 if everything was settled, and 1 if something is still awaited.
    Cancel(CancelArgs),
    /// Move the wallet to another device: close it here for ever, and write what the other device needs.
    ///
    /// The code comes from `import --prepare` on the other device. The same export can be run again.
    Export(ExportArgs),
    /// Take a wallet over from another device, in two steps: --prepare gives the code to export to; then the file.
    Import(ImportArgs),
    /// Look the wallet over: file, seat, directory, stale lanes, what is in flight, disputes, epochs that end.
    ///
    /// The exit code is 0 if nothing was found, and 1 otherwise.
    Doctor(DoctorArgs),
    /// List what the wallet has against a gateway or the issuer, and save it as files.
    Disputes(DisputesArgs),
}

/// Does it, and says what went wrong.
pub fn run(args: &Args) -> ExitCode {
    let place = &args.place;
    place.network.establish();
    progress::allow(place.json);
    let outcome = match &args.action {
        Action::New(args) => birth::run(place, args),
        Action::Words => words::run(place),
        Action::Restore(args) => restore::run(place, args),
        Action::Fund(args) => fund::run(place, args),
        Action::Balance => look::balance(place),
        Action::Lanes => look::lanes(place),
        Action::Call(args) => call::run(place, args),
        Action::History(args) => history::run(place, args),
        Action::Key(args) => key::run(place, args),
        Action::Cancel(args) => cancel::run(place, args),
        Action::Export(args) => travel::export(place, args),
        Action::Import(args) => travel::import(place, args),
        Action::Doctor(args) => doctor::run(place, args),
        Action::Disputes(args) => disputes::run(place, args),
    };
    outcome.unwrap_or_else(|trouble| trouble.tell(place.json))
}
