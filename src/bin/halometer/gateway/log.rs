//! What is logged, and what never is.
//!
//! A log is kept longer, and read by more people, than anything else that a gateway writes. So nothing goes into it that tells one
//! call from others: no address, path, size, nullifier, key or payment, and no line for a call, whose time would tell it. What happens
//! often is told as sums, at intervals. Lines of the libraries underneath, which know nothing of this, are left out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::config::{LogConfig, LogFormat, LogLevel};
use halometer::clearing::ClearingError;
use halometer::http::issuer::IssuerObserver;
use halometer::http::observer::Observer;
use halometer::http::operate::Tally;
use halometer::http::upstream::UpstreamError;
use halometer::issuer::NoticeError;
use halometer::lifecycle::Evidence;
use halometer::sealed::{make_private, write_atomically};
use halometer::upkeep::{UpkeepError, UpkeepReport};
use halometer::workers::TaskPool;

/// Files of evidence that are kept at most: one for each account, and so for each payment.
const MOST_EVIDENCE: usize = 10_000;
/// Pieces of evidence that wait to be written.
const QUEUE: usize = 256;

/// Begins to log on standard error.
pub(super) fn start(config: LogConfig) {
    let level = match config.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ours = Targets::new().with_target("halometer", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(false);
    // One for each process; a second has no effect.
    let _ = match config.format {
        LogFormat::Text => tracing_subscriber::registry().with(lines).with(ours).try_init(),
        LogFormat::Json => tracing_subscriber::registry().with(lines.json().flatten_event(true)).with(ours).try_init(),
    };
}

/// Logs what the operator has to know of what a gateway tells, and keeps evidence.
pub(super) struct Log {
    evidence: Option<PathBuf>,
    /// Writes evidence: the task that tells of it does not wait for a disk.
    writer: TaskPool,
    /// What was warned of last, so that it is said when it begins and not every minute.
    warned: Mutex<Vec<String>>,
    /// When it was last told why the service cannot be reached, and why.
    unreached: Mutex<Option<(std::time::Instant, String)>>,
}

/// How often one and the same reason is told.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

impl Log {
    /// Evidence is kept in a directory, if there is one.
    pub(super) fn new(evidence: Option<PathBuf>) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            evidence,
            writer: TaskPool::start("evidence", 1, QUEUE)?,
            warned: Mutex::default(),
            unreached: Mutex::default(),
        }))
    }
}

fn keep(place: &Path, evidence: &Evidence) -> io::Result<()> {
    make_private(place)?;
    // A note that is spent a hundred times has one file.
    let path = place.join(format!("{}.evidence", hex::encode(&evidence.account().to_bytes()[..8])));
    if !path.exists() && std::fs::read_dir(place)?.count() < MOST_EVIDENCE {
        write_atomically(&path, &evidence.to_bytes())?;
    }
    Ok(())
}

impl Observer for Log {
    fn trouble(&self, trouble: Option<&str>) {
        match trouble {
            Some(trouble) => error!("no calls are taken: {trouble}"),
            None => info!("calls are taken again"),
        }
    }

    /// At once when it begins, and then once a minute: single failures are of single calls.
    fn upstream_failed(&self, error: &UpstreamError) {
        let UpstreamError::Unreachable(_) = error else { return };
        let mut told = self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = halometer::http::cause::chain(error);
        let due = told.as_ref().is_none_or(|(at, before)| at.elapsed() >= AGAIN || *before != reason);
        if due {
            warn!(
                reason,
                "the service cannot be reached: look at `upstream.url` and, for a certificate, at `upstream.ca`"
            );
            *told = Some((std::time::Instant::now(), reason));
        }
    }

    fn upkeep(&self, outcome: &Result<UpkeepReport, UpkeepError>) {
        let report = match outcome {
            Ok(report) => report,
            Err(error) => return error!(%error, "upkeep could not ask the store"),
        };
        debug!(settled = report.settled, erased = report.erased, "a round of upkeep");
        report.closed.iter().for_each(|epoch| info!(%epoch, "the partition of an epoch takes no more spends"));
        report.retired.iter().for_each(|epoch| info!(%epoch, "the partition of an epoch was dropped"));
        for failure in &report.failures {
            error!(epoch = %failure.epoch, step = %failure.step, error = %failure.error, "a step of upkeep failed");
        }
        let standing = report.standing.iter().map(|(epoch, why)| format!("epoch {epoch} is not retired: {why}"));
        let now: Vec<String> = report.warnings.iter().map(ToString::to_string).chain(standing).collect();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        now.iter().filter(|text| !warned.contains(text)).for_each(|text| warn!("{text}"));
        *warned = now;
    }

    fn service_noticed(&self, notice: &str) {
        warn!("{notice}");
    }

    fn double_spend(&self, evidence: Evidence) {
        let Some(place) = self.evidence.clone() else {
            return warn!("a note was spent twice; evidence is kept with a durable store only");
        };
        let written = self.writer.leave(move || match keep(&place, &evidence) {
            Ok(()) => warn!(
                evidence = %place.display(),
                "a note was spent twice; `halometer evidence verify` names the account"
            ),
            Err(error) => error!(%error, "a note was spent twice, and the evidence could not be kept"),
        });
        if written.is_err() {
            warn!("a note was spent twice, and so many others that the evidence of this one is not kept");
        }
    }
}

/// The same of what an issuer tells, which is counted with what its gateway tells.
pub(super) struct IssuerLog {
    tally: Arc<Tally>,
    /// Requests of gateways elsewhere that were refused for a reason of theirs, and the last one.
    refused: Mutex<(u64, &'static str)>,
}

impl IssuerLog {
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        Self { tally, refused: Mutex::default() }
    }

    fn refused(&self) -> (u64, &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuerObserver for IssuerLog {
    fn notice_refused(&self, error: &NoticeError) {
        // All else may be anybody's junk, as often as they like.
        match error {
            NoticeError::Conflict { .. } => {
                error!("a payment was noticed with two amounts; the first stays, and somebody has to look into it");
            }
            NoticeError::Store(error) => {
                error!(%error, "a payment notice could not be recorded; it is to be sent again")
            }
            _ => {}
        }
    }

    fn clearing_refused(&self, error: &ClearingError) {
        // All else is a caller's doing, or anybody's junk.
        let problem = error.problem();
        if problem.is_of_gateway() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused = (refused.0 + 1, problem.as_str());
        }
    }

    fn verified(&self, spends: usize, elapsed: Duration) {
        Observer::verified(&*self.tally, spends, elapsed);
    }

    fn conflict(&self) {
        Observer::conflict(&*self.tally);
    }

    fn double_spend(&self, evidence: Evidence) {
        // Which tells the log.
        Observer::double_spend(&*self.tally, evidence);
    }
}

/// Sums that are logged where they have grown.
#[derive(Debug, Default)]
pub(super) struct Sums {
    upstream: BTreeMap<&'static str, u64>,
    issuer: u64,
    clearing: u64,
}

impl Sums {
    /// Logs what has come since it was last asked.
    pub(super) fn tell(&mut self, tally: &Tally, clearing: &IssuerLog) {
        for (kind, count) in tally.upstream_failures() {
            if let Some(count) = more(self.upstream.entry(kind).or_default(), count) {
                warn!(kind, count, "the service behind did not answer");
            }
        }
        let (count, last) = tally.issuer_failures();
        if let Some(count) = more(&mut self.issuer, count) {
            warn!(count, last, "the issuer did not answer, or what was not taken");
        }
        let (count, last) = clearing.refused();
        if let Some(count) = more(&mut self.clearing, count) {
            warn!(count, last, "requests of gateways elsewhere were refused");
        }
    }
}

/// By how much a sum has grown since it was told, which it is by this.
fn more(told: &mut u64, now: u64) -> Option<u64> {
    let before = core::mem::replace(told, now);
    now.checked_sub(before).filter(|more| *more > 0)
}
