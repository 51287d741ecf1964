//! Looking a wallet over.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use serde_json::{Value, json};

use super::online::{Issuer, Online, block_on, choose, go_over, news, policy, smallest_class, used_last};
use super::say::{say, utc};
use super::trouble::{Trouble, fault_name};
use super::{Outcome, Place, disputes};
use halometer::http::clock::now;
use halometer::http::payer::{Event, Status, clocks_off};
use halometer::protocol::{EpochNumber, Fault, GatewayId, Timestamp, grouped};
use halometer::sealed::Lock;
use halometer::wallet::file::{Contents, FileJournal, FileStanding, WalletFile, WalletFileError, WalletFileReport};
use halometer::wallet::{Journal as _, LaneStatus, Policy, Wallet};

/// How long others are given to answer, and for rollovers that are urgent.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_TO_ROLL: Duration = Duration::from_secs(60);
/// How long it takes, most likely, to ask about notes that are not to be spent yet: nothing says when it is done.
const TO_ASK: Duration = Duration::from_secs(3);
/// What to do with a dispute.
const EVIDENCE: &str = "`halometer wallet disputes --save DIR` has the evidence; take it to the operator";
/// What has to be typed.
const SENTENCE: &str = "no other copy";

/// The arguments of `halometer wallet doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// Use a file that was copied or put back, or that was moved and whose bundle is lost. You state that no other copy of this
    /// wallet will ever run again: two that run can spend a note twice, which reveals the account. For some hours nothing of it is
    /// spent. Has to be confirmed on the terminal.
    #[arg(long)]
    pub adopt: bool,

    /// The confirmation, for scripts.
    #[arg(long, requires = "adopt")]
    pub yes_no_other_copy_will_ever_run: bool,

    /// Look at the file alone, and ask nobody.
    #[arg(long)]
    pub offline: bool,

    /// Where the issuer is, if not where the wallet has it from. A wallet that knows none keeps it.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,

    /// The gateway to ask, where the issuer has several; without it the first.
    #[arg(long, value_name = "ID")]
    pub gateway: Option<GatewayId>,
}

/// Something that is not as it should be.
struct Finding {
    what: String,
    fault: Fault,
    next: String,
}

impl Finding {
    fn new(what: impl Into<String>, fault: Fault, next: impl Into<String>) -> Self {
        Self { what: what.into(), fault, next: next.into() }
    }
}

impl From<Trouble> for Finding {
    fn from(trouble: Trouble) -> Self {
        Self::new(trouble.what(), trouble.fault(), trouble.to_do())
    }
}

/// What was found, and what is well.
#[derive(Default)]
struct Findings {
    found: Vec<Finding>,
    facts: Vec<String>,
}

pub(super) fn run(place: &Place, args: &DoctorArgs) -> Outcome {
    let file = place.existing()?;
    let lock = place.lock()?;
    let mut findings = Findings::default();
    let mut report = match file.check(Some(&lock)) {
        Ok(report) => Some(report),
        Err(error @ (WalletFileError::Damaged(_) | WalletFileError::Storage(_))) => {
            findings.found.push(Trouble::from(error).into());
            None
        }
        Err(error) => return Err(error.into()),
    };
    if args.adopt
        && let Some(standing) = report.as_ref().and_then(standing)
    {
        adopt(&file, &lock, standing, args.yes_no_other_copy_will_ever_run)?;
        report = Some(file.check(Some(&lock))?);
        findings.facts.push("this file was adopted: it is the wallet from now on".to_owned());
    }
    match report.as_ref().and_then(standing) {
        Some(FileStanding::InOrder) => inspect(&file, &lock, args, &mut findings)?,
        Some(FileStanding::Copied) => findings.found.push(Trouble::from(WalletFileError::Copied).into()),
        // How far it is behind, opening says.
        Some(FileStanding::RolledBack) => match file.open(&lock) {
            Err(error) => findings.found.push(Trouble::from(error).into()),
            Ok(_) => return Err(Trouble::yours("the file changed while it was looked at")),
        },
        Some(_) => findings.found.push(Trouble::from(WalletFileError::Moved).into()),
        None => {}
    }
    tell(place, report.as_ref(), &findings)?;
    Ok(if findings.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn standing(report: &WalletFileReport) -> Option<FileStanding> {
    report.contents.as_ref().map(|contents| contents.standing)
}

fn adopt(file: &WalletFile, lock: &Lock, standing: FileStanding, confirmed: bool) -> Result<(), Trouble> {
    if standing == FileStanding::InOrder {
        return Err(Trouble::yours("this file is in order: it was used here last").next("leave out --adopt"));
    }
    if !confirmed {
        confirm()?;
    }
    file.adopt(lock, now(), &mut UnwrapErr(SysRng))?;
    Ok(())
}

fn confirm() -> Result<(), Trouble> {
    let not = "not adopted: it was not confirmed that no other copy of this wallet will ever run again";
    let next = "confirm it on a terminal, or with --yes-no-other-copy-will-ever-run, if it is so";
    if !std::io::stdin().is_terminal() {
        return Err(Trouble::yours(not).next(next));
    }
    eprintln!(
        "If another copy of this wallet ever runs again, a note may be spent twice, and that reveals the account."
    );
    eprint!("To adopt this one, type `{SENTENCE}`: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == SENTENCE { Ok(()) } else { Err(Trouble::yours(not).next(next)) }
}

/// Looks into a file that is in order.
fn inspect(file: &WalletFile, lock: &Lock, args: &DoctorArgs, findings: &mut Findings) -> Result<(), Trouble> {
    let wallet = file.open(lock)?;
    look(&wallet, findings)?;
    if let (Some(url), None) = (&args.issuer, wallet.journal().note(super::online::ISSUER)?) {
        wallet.journal().put_note(super::online::ISSUER, Issuer::at(url)?.url())?;
    }
    if args.offline {
        let until = wallet.quarantined_until().filter(|until| now() < *until);
        findings.found.extend(until.map(quarantine));
        return Ok(());
    }
    block_on(ask(wallet, args, findings))?
}

/// What the file says.
fn look(wallet: &Wallet<FileJournal>, findings: &mut Findings) -> Result<(), Trouble> {
    for dispute in wallet.journal().disputes()? {
        let whose = dispute.gateway.map_or_else(|| "the issuer".to_owned(), |gateway| format!("gateway {gateway}"));
        let what = format!("{whose} {}", disputes::words(dispute.kind));
        findings.found.push(Finding::new(what, Fault::Operator, EVIDENCE));
    }
    for payment in wallet.payments().filter(|payment| payment.minted.is_none() && !payment.forgotten) {
        let what = format!("payment {} is not minted yet", payment.number);
        findings.found.push(Finding::new(
            what,
            Fault::Nobody,
            "run the same `fund` again; if the issuer was never paid, `halometer wallet payments --forget NUMBER`",
        ));
    }
    let time = now();
    let directory = wallet.directory();
    let mut ended = 0_u64;
    for (_, status) in wallet.lanes() {
        if let LaneStatus::Unchecked { value, epoch } | LaneStatus::Idle { value, epoch } = status
            && !value.is_zero()
            && directory.epoch(epoch).is_none_or(|epoch| epoch.spend.until <= time)
        {
            ended += 1;
        }
    }
    if ended > 0 {
        let what = format!("the epoch of {ended} lanes is over: their credit cannot be spent any more");
        findings.found.push(Finding::new(what, Fault::Caller, "ask the issuer whether it makes up for that"));
    }
    restorable(wallet, findings)?;
    let parts = directory.parts();
    findings.facts.push(format!(
        "directory number {} of {} UTC, digest {}",
        parts.serial,
        utc(parts.published),
        directory.digest()
    ));
    if directory.grid().is_for_development() {
        findings.facts.push(super::DEVELOPMENT.to_owned());
    }
    for gateway in &parts.gateways {
        findings.facts.push(format!("gateway {} at {}", gateway.id, gateway.origins.join(", ")));
    }
    let classes: Vec<_> = directory.classes().iter().map(|class| class.grouped()).collect();
    findings.facts.push(format!("charge classes {}", classes.join("; ")));
    Ok(())
}

/// What the wallet's words would bring back.
fn restorable(wallet: &Wallet<FileJournal>, findings: &mut Findings) -> Result<(), Trouble> {
    let restorability = wallet.restorability(now())?;
    if let Some(device) = restorability.device {
        let what = super::words::of_an_earlier_release(device);
        findings.found.push(Finding::new(
            what,
            Fault::Nobody,
            "write it down beside the words: `halometer wallet words`",
        ));
    }
    if !restorability.lanes.is_empty() {
        let what = format!(
            "the words do not bring back {} lanes: their last spends are told no more",
            restorability.lanes.len()
        );
        findings.found.push(Finding::new(
            what,
            Fault::Nobody,
            "their next spends mend it; keep a backup of the file until then",
        ));
    }
    if restorability.is_whole() {
        findings.facts.push("its 24 words bring all of it back: `halometer wallet words` shows them".to_owned());
    }
    Ok(())
}

fn quarantine(until: Timestamp) -> Finding {
    let what = format!("the wallet was adopted or restored: nothing of before is spent before {} UTC", utc(until));
    Finding::new(what, Fault::Nobody, "wait; spends that another copy has sent may still arrive")
}

/// Asks issuer and gateway.
async fn ask(mut wallet: Wallet<FileJournal>, args: &DoctorArgs, findings: &mut Findings) -> Result<(), Trouble> {
    let shown = match Issuer::of(args.issuer.as_deref(), &wallet) {
        Ok(issuer) => issuer.directory().await,
        Err(trouble) => Err(trouble),
    };
    match shown.and_then(|shown| go_over(&mut wallet, &shown)) {
        Ok(true) => findings.facts.push("the issuer shows a newer directory, which is gone by now".to_owned()),
        Ok(false) => findings.facts.push("the issuer shows the same directory, or one that is older".to_owned()),
        Err(trouble) => findings.found.push(trouble.into()),
    }
    let first = wallet.directory().parts().gateways.first().map(|gateway| gateway.id);
    let gateway = choose(wallet.directory(), args.gateway.or(used_last(&wallet)?).or(first), None)?;
    let class = smallest_class(wallet.directory())?;
    let policy = policy(class);
    // To roll a note over, another epoch has to issue.
    let issuing = wallet.directory().issuing(now()).map(|epoch| epoch.number);
    let urgent = soon(&wallet, &policy, issuing);
    // Nobody makes calls meanwhile: what is urgent need not wait for a quiet time.
    let policy = if urgent > 0 { Policy { quiet_seconds: 0, gather: false, ..policy } } else { policy };
    let online = match Online::start(wallet, gateway, policy).await {
        Ok(online) => online,
        Err(trouble) => {
            findings.found.push(trouble.into());
            clock(findings);
            return Ok(());
        }
    };
    findings.facts.push("the gateway goes by the same directory".to_owned());
    clock(findings);
    let done = |status: &Status, events: &[Event]| {
        let asked = status.unchecked == 0
            || status.quarantined_until.is_some()
            || events.iter().any(|event| matches!(event, Event::QuestionsFailed));
        asked && status.in_flight <= status.disputed
    };
    let mut status = online.wait(PATIENCE, done).await?;
    if status.quarantined_until.is_some() {
        status = online.wait(TO_ASK, |status, _| status.unchecked == 0).await?;
    }
    if urgent > 0 {
        let rolled = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::RolledOver(_))).count();
        let all = |_: &Status, events: &[Event]| rolled(events) >= urgent;
        status = online.wait(PATIENCE_TO_ROLL, all).await?;
    }
    let events = online.told.all();
    let kept = |event: &Event| match event {
        Event::DisputeKept(kind) => Some(*kind),
        _ => None,
    };
    let others: Vec<_> = events.iter().filter(|event| kept(event).is_none()).cloned().collect();
    findings.facts.extend(news(&others));
    let kinds: BTreeSet<_> = events.iter().filter_map(kept).map(disputes::words).collect();
    let disputed = kinds
        .into_iter()
        .map(|words| Finding::new(format!("gateway {gateway}, or the issuer, {words}"), Fault::Operator, EVIDENCE));
    findings.found.extend(disputed);
    findings.found.extend(status.quarantined_until.map(quarantine));
    let count = |number: usize, what: &str, fault, next: &str| {
        (number > 0).then(|| Finding::new(format!("{number} lanes {what}"), fault, next))
    };
    let waiting = status.in_flight.saturating_sub(status.disputed);
    findings.found.extend(count(
        waiting,
        "await a settlement",
        Fault::Nobody,
        "`halometer wallet cancel` asks for it until it comes",
    ));
    findings.found.extend(count(
        status.frozen,
        "are frozen: their notes were spent by a copy of this wallet",
        Fault::Caller,
        "let no copy run any more; what the notes were worth is with the copy, or spent",
    ));
    if status.quarantined_until.is_none() {
        findings.found.extend(count(
            status.unchecked,
            "are not asked about: whether a copy of this wallet spent their notes is not known",
            Fault::Nobody,
            "run it again when the gateway answers",
        ));
    }
    if let Some(wallet) = online.end().await {
        let left = soon(&wallet, &self::policy(class), None);
        findings.found.extend(count(
            left,
            "have notes of an epoch that ends within two days",
            Fault::Caller,
            "run `doctor` again, which rolls them over once another epoch issues; or spend them",
        ));
    }
    Ok(())
}

/// What answers say of this machine's clock.
fn clock(findings: &mut Findings) {
    let off = clocks_off();
    if off.is_empty() {
        findings.facts.push("this machine's clock is that of the gateway".to_owned());
    }
    for off in off {
        findings.found.push(Finding::new(
            format!("{off}: spends may be refused as expired, and epochs look over that are not"),
            Fault::Caller,
            "put this machine's clock right; if it is right, tell the operator",
        ));
    }
}

/// How many lanes have a note that is worth something and ends soon, but for those of one epoch.
fn soon(wallet: &Wallet<FileJournal>, policy: &Policy, but: Option<EpochNumber>) -> usize {
    let by = now().after(policy.roll_over_seconds);
    let ends = |status: &LaneStatus| match status {
        LaneStatus::Idle { value, epoch } | LaneStatus::Unchecked { value, epoch }
            if !value.is_zero() && Some(*epoch) != but =>
        {
            wallet.directory().epoch(*epoch).is_some_and(|epoch| epoch.spend.contains(now()) && epoch.spend.until <= by)
        }
        _ => false,
    };
    wallet.lanes().filter(|(_, status)| ends(status)).count()
}

fn tell(place: &Place, report: Option<&WalletFileReport>, findings: &Findings) -> Result<(), Trouble> {
    let contents = report.and_then(|report| report.contents.as_ref());
    let found = findings.found.iter();
    let found = found.map(|found| json!({ "what": found.what, "fault": fault_name(found.fault), "next": found.next }));
    let number = |of: fn(&Contents) -> u64| contents.map(of);
    let value = json!({
        "well": findings.found.is_empty(),
        "findings": found.collect::<Vec<Value>>(),
        "facts": findings.facts,
        "sound": report.is_some(),
        "standing": contents.map(|contents| standing_name(contents.standing)),
        "file_bytes": report.map(|report| report.file_bytes),
        "payments": number(|contents| contents.payments),
        "spends": number(|contents| contents.spends),
        "unsettled": number(|contents| contents.unsettled),
        "disputes": number(|contents| contents.disputes),
    });
    let mut lines = Vec::new();
    if let (Some(report), Some(contents)) = (report, contents) {
        let Contents { payments, spends, .. } = contents;
        lines.push(format!(
            "well      the file is sound: {} bytes, {} payments, {} spends",
            grouped(report.file_bytes.into()),
            grouped((*payments).into()),
            grouped((*spends).into())
        ));
    }
    lines.extend(findings.facts.iter().map(|fact| format!("well      {fact}")));
    for found in &findings.found {
        lines.push(format!("found     {}", found.what));
        lines.push(format!("  fault   {}", super::trouble::fault_words(found.fault)));
        lines.push(format!("  next    {}", found.next));
    }
    if findings.found.is_empty() {
        lines.push("nothing is wrong".to_owned());
    }
    Ok(say(place.json, &value, lines)?)
}

const fn standing_name(standing: FileStanding) -> &'static str {
    match standing {
        FileStanding::InOrder => "in-order",
        FileStanding::Copied => "copied",
        FileStanding::RolledBack => "rolled-back",
        FileStanding::Moved => "moved",
        _ => "unknown",
    }
}
