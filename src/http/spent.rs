//! Which notes are spent, for wallets that do not want to name theirs (protocol, section 5, "Journal").
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /.well-known/halometer/spent/{epoch}` | `{"spent": N}`: about how many nullifiers the epoch's partition has, rounded down to a power of two |
//! | `GET /.well-known/halometer/spent/{epoch}/{bits}/{value}` | those that begin with a [`Prefix`], in pages |
//! | `POST /.well-known/halometer/restore/memo` | a [`MemoQuery`](crate::protocol::MemoQuery), to the memo of a recorded spend |
//! | `POST /.well-known/halometer/restore/change` | a [`ChangeQuery`](crate::protocol::ChangeQuery), to its settlement |
//!
//! An answer in pages is a run of pages, each behind the number of its nullifiers (4 bytes), of 32 bytes each and in ascending
//! order, and ends with a page of none. So one that breaks off is never taken for a shorter one.
//!
//! No question names its caller. What wallets ask is cheap, and no quota is charged for it: all that ask the same are answered by one
//! read, and a body is kept until something else of its partition is spent. Only what is much longer than a wallet's bucket is read
//! page by page, by few at a time and within a rate, each sender by itself.

mod answers;
mod last;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use halometer_circuits::note::Nullifier;
use http::{StatusCode, header};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::clock::now;
use super::problem::ProblemDetails;
use super::wire::{RESTORE_CHANGE_PATH, RESTORE_MEMO_PATH, SPENT_PATH, SpentCount, write_page};
use crate::gateway::{Rate, store_problem};
use crate::pipeline::{Current, Source};
use crate::protocol::{Directory, EpochNumber, Prefix, Problem, Sender};
use crate::quota::{Meter, Share, Shares};
use crate::store::{PartitionPhase, SpentSet, StoreError};
use crate::workers::{TaskPool, WorkError};
use answers::{Answers, Question, Told};

/// How many nullifiers there are in a page at most.
const PAGE: usize = 1_024;
/// Answers that are being read at a time; one more is refused as busy.
const PLACES: usize = 64;
/// Of one sender.
const PLACES_EACH: usize = 16;
/// How long a reader may take over an answer.
const READING: Duration = Duration::from_secs(120);
/// Buckets that would be longer than this, by estimate, are refused where more bits may be told: 8 MiB.
const MAX_BUCKET: u64 = Prefix::MAX_BUCKET;
/// Buckets of no more than this, by estimate, are made at once: four times what a wallet asks for at least.
const SMALL_BUCKET: u64 = 4 * Prefix::CROWD;

/// Answers which notes are spent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct SpentBuckets(Arc<Buckets>);

struct Buckets {
    set: Arc<dyn SpentSet>,
    /// The epochs that have or had a partition. That one of them is missing is the store's fault and no answer.
    epochs: Current<Vec<EpochNumber>>,
    workers: TaskPool,
    rate: Arc<Meter>,
    places: Arc<Semaphore>,
    shares: Arc<Shares>,
    answers: Arc<Answers>,
    page: usize,
    max_bucket: u64,
    small_bucket: u64,
}

impl core::fmt::Debug for Buckets {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Buckets").field("epochs", &self.epochs).finish_non_exhaustive()
    }
}

impl SpentBuckets {
    /// Starts the thread that reads.
    pub(crate) fn start(set: Arc<dyn SpentSet>, directory: &Directory, rate: Rate) -> io::Result<Self> {
        Ok(Self(Arc::new(Buckets {
            set,
            epochs: Current::new(numbers(directory)),
            workers: TaskPool::start("spent", 1, 2 * PLACES)?,
            rate: Arc::new(Meter::new(rate)),
            places: Arc::new(Semaphore::new(PLACES)),
            shares: Arc::new(Shares::new(PLACES_EACH)),
            answers: Arc::default(),
            page: PAGE,
            max_bucket: MAX_BUCKET,
            small_bucket: SMALL_BUCKET,
        })))
    }

    /// Answers for the epochs of a newer directory.
    pub(crate) fn adopt(&self, directory: &Directory) {
        self.0.epochs.set(numbers(directory));
    }

    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route(&format!("{SPENT_PATH}/{{epoch}}"), get(count))
            .route(&format!("{SPENT_PATH}/{{epoch}}/{{bits}}/{{value}}"), get(bucket))
            .route(RESTORE_MEMO_PATH, post(last::memo))
            .route(RESTORE_CHANGE_PATH, post(last::change))
            .with_state(Arc::clone(&self.0))
    }
}

fn numbers(directory: &Directory) -> Arc<Vec<EpochNumber>> {
    Arc::new(directory.epochs().iter().map(|epoch| epoch.number).collect())
}

/// What is no text is no epoch, and no prefix.
type Parts<T> = Result<Path<T>, PathRejection>;

/// Where a question came from.
type Came = Option<Extension<Source>>;

fn sender(from: Came) -> Sender {
    from.map(|Extension(source)| source.sender()).unwrap_or_default()
}

async fn count(State(inner): State<Arc<Buckets>>, from: Came, epoch: Parts<String>) -> Response {
    let counted = async {
        let epoch = epoch.map(|Path(epoch)| epoch).unwrap_or_default();
        let _share = inner.share(sender(from))?;
        let epoch = inner.epoch(&epoch)?;
        let spent = inner.count(epoch).await?;
        Ok::<_, ProblemDetails>(axum::Json(SpentCount { spent: spent.checked_ilog2().map_or(0, |log| 1 << log) }))
    };
    match counted.await {
        Ok(json) => ([(header::CACHE_CONTROL, "no-store")], json).into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn bucket(State(inner): State<Arc<Buckets>>, from: Came, parts: Parts<(String, String, String)>) -> Response {
    let (epoch, bits, value) = parts.map(|Path(parts)| parts).unwrap_or_default();
    match inner.bucket(sender(from), &epoch, &format!("{bits}/{value}")).await {
        Ok(body) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
            (headers, body).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

fn refusal(problem: Problem, status: StatusCode, detail: impl Into<String>) -> ProblemDetails {
    ProblemDetails::new(problem, detail).with_status(status)
}

fn busy() -> ProblemDetails {
    ProblemDetails::new(Problem::Busy, "too many ask which notes are spent")
}

fn refused(error: &StoreError) -> ProblemDetails {
    let details = ProblemDetails::new(store_problem(error), error.to_string());
    let gone = details.kind() == Some(Problem::UnknownEpoch);
    if gone { details.with_status(StatusCode::NOT_FOUND) } else { details }
}

fn unread(error: WorkError) -> ProblemDetails {
    match error {
        WorkError::Busy => busy(),
        _ => ProblemDetails::new(Problem::StoreUnavailable, "the spent set could not be asked"),
    }
}

impl Buckets {
    /// A sender has so many questions at a time.
    fn share(&self, sender: Sender) -> Result<Share, ProblemDetails> {
        self.shares.take(sender).ok_or_else(busy)
    }

    /// For what is read page by page, and takes as long as its reader.
    fn enter(&self, sender: Sender) -> Result<OwnedSemaphorePermit, ProblemDetails> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy())?;
        self.rate.take(sender, now()).ok_or_else(busy)?.used();
        Ok(place)
    }

    fn epoch(&self, text: &str) -> Result<EpochNumber, ProblemDetails> {
        let known = self.epochs.get();
        let known = known.iter().find(|epoch| epoch.to_string() == text);
        known.copied().ok_or_else(|| refusal(Problem::UnknownEpoch, StatusCode::NOT_FOUND, "there is no such epoch"))
    }

    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&dyn SpentSet) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ProblemDetails> {
        let inner = Arc::clone(self);
        match self.workers.run(move || question(&*inner.set)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(unread(error)),
        }
    }

    async fn told(
        self: &Arc<Self>,
        question: Question,
        read: impl FnOnce(&Self) -> Result<Told, StoreError> + Send + 'static,
    ) -> Result<Told, ProblemDetails> {
        let inner = Arc::clone(self);
        let answer = self.answers.ask(&self.workers, question, move || read(&inner)).await.map_err(unread)?;
        answer.map_err(|error| refused(&error))
    }

    /// How many nullifiers a partition has, as long as it has them.
    async fn count(self: &Arc<Self>, epoch: EpochNumber) -> Result<u64, ProblemDetails> {
        match self.told((epoch, None), move |inner| inner.spent(epoch).map(Told::Count)).await? {
            Told::Count(count) => Ok(count),
            _ => Err(unread(WorkError::Gone)),
        }
    }

    fn spent(&self, epoch: EpochNumber) -> Result<u64, StoreError> {
        let totals = self.set.totals(epoch)?;
        match self.set.partitions()?.into_iter().find(|(number, _)| *number == epoch) {
            None => Err(StoreError::PartitionMissing(epoch)),
            // Its sums outlive its records.
            Some((_, PartitionPhase::Retired)) => Err(StoreError::PartitionRetired(epoch)),
            Some(_) => Ok(totals.open.saturating_add(totals.settled)),
        }
    }

    /// The whole answer for a bucket that is small by estimate, from what is kept where nothing was spent since.
    fn small(&self, epoch: EpochNumber, prefix: Prefix) -> Result<Told, StoreError> {
        let count = self.spent(epoch)?;
        let estimate = count >> prefix.bits();
        if estimate > self.small_bucket {
            return Ok(Told::Many(estimate));
        }
        if let Some(body) = self.answers.kept(epoch, prefix, count) {
            return Ok(Told::Pages(body));
        }
        let (mut body, mut last) = (Vec::new(), None);
        loop {
            let page = self.set.bucket(epoch, prefix, last.as_ref(), self.page)?;
            if !page.is_empty() {
                write_page(&mut body, &page);
            }
            if page.len() < self.page {
                break;
            }
            last = page.last().copied();
        }
        write_page(&mut body, &[]);
        let body = Bytes::from(body);
        self.answers.keep(epoch, prefix, count, &body);
        Ok(Told::Pages(body))
    }

    async fn page(
        self: &Arc<Self>,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<Nullifier>,
    ) -> Result<Vec<Nullifier>, ProblemDetails> {
        let limit = self.page;
        self.ask(move |set| set.bucket(epoch, prefix, after.as_ref(), limit)).await
    }

    /// The body of an answer. Until its first page is read an error is a problem; from then on it breaks the body off.
    async fn bucket(self: &Arc<Self>, sender: Sender, epoch: &str, prefix: &str) -> Result<Body, ProblemDetails> {
        let share = self.share(sender)?;
        let epoch = self.epoch(epoch)?;
        let prefix: Prefix = prefix
            .parse()
            .map_err(|_| refusal(Problem::Malformed, StatusCode::NOT_FOUND, "there is no such prefix"))?;
        let estimate = match self.told((epoch, Some(prefix)), move |inner| inner.small(epoch, prefix)).await? {
            Told::Pages(body) => return Ok(Body::from(body)),
            Told::Many(estimate) | Told::Count(estimate) => estimate,
        };
        if prefix.bits() < Prefix::MAX_TOLD && estimate > self.max_bucket {
            let detail = "there are too many nullifiers with this prefix: ask for one with more bits";
            return Err(refusal(Problem::Malformed, StatusCode::BAD_REQUEST, detail));
        }
        let place = self.enter(sender)?;
        let first = self.page(epoch, prefix, None).await?;
        let (send, receive) = mpsc::channel(1);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            // A reader that does not read gives the place to another.
            let _ = tokio::time::timeout(READING, inner.feed(epoch, prefix, first, &send)).await;
            drop((place, share));
        });
        Ok(Body::new(Pages(receive)))
    }

    async fn feed(
        self: &Arc<Self>,
        epoch: EpochNumber,
        prefix: Prefix,
        first: Vec<Nullifier>,
        send: &mpsc::Sender<io::Result<Bytes>>,
    ) {
        let mut page = first;
        loop {
            let last = page.last().copied().filter(|_| page.len() >= self.page);
            let mut bytes = Vec::with_capacity(8 + 32 * page.len());
            write_page(&mut bytes, &page);
            if last.is_none() && !page.is_empty() {
                write_page(&mut bytes, &[]);
            }
            // Nobody reads any more.
            if send.send(Ok(bytes.into())).await.is_err() {
                return;
            }
            if last.is_none() {
                return;
            }
            page = match self.page(epoch, prefix, last).await {
                Ok(page) => page,
                Err(problem) => {
                    let _ = send.send(Err(io::Error::other(problem.to_string()))).await;
                    return;
                }
            };
        }
    }
}

/// The pages of an answer as they are read. Where the sender gave up, the last page is missing.
struct Pages(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Pages {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|page| page.map(|page| page.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;
    use crate::circuits::note::{ContextHash, ValueCommitment};
    use crate::http::wire::{bucket_path, read_pages, spent_path};
    use crate::protocol::DecodeError;
    use crate::protocol::{Credits, Memo, OwnerId, SpendTag, Timestamp};
    use crate::store::{Lease, MemorySpentSet, Record, RecordEvidence, RecordKey, RecordState};

    const EPOCH: [EpochNumber; 2] = [EpochNumber::new(1), EpochNumber::new(2)];

    fn nullifier(first: u8) -> Nullifier {
        let mut bytes = [0; 32];
        bytes[0] = first;
        Option::from(Nullifier::from_bytes(&bytes)).unwrap()
    }

    fn record(first: u8) -> Record {
        let change = Option::from(ValueCommitment::from_bytes(&[1; 32])).unwrap();
        let context = Option::from(ContextHash::from_bytes(&[3; 32])).unwrap();
        let key = RecordKey { epoch: EPOCH[0], nullifier: nullifier(first), tag: SpendTag::from_bytes([1; 32]) };
        let lease = Lease { owner: OwnerId::from_bytes([1; 16]), until: Timestamp::MAX };
        Record {
            key,
            memo: Memo::from_bytes([0; 64]),
            evidence: Some(RecordEvidence { context, charge: Credits::from_micro(1), change, spend: Vec::new() }),
            state: RecordState::Open { lease, metered: Credits::ZERO },
        }
    }

    /// Nullifiers that begin with 0 to 63, a page for each.
    fn served() -> (Arc<MemorySpentSet>, Arc<Buckets>) {
        served_with(0, Rate::UNLIMITED)
    }

    fn served_with(small_bucket: u64, rate: Rate) -> (Arc<MemorySpentSet>, Arc<Buckets>) {
        let set = Arc::new(MemorySpentSet::new());
        set.create(EPOCH[0]).unwrap();
        let inserted = set.insert_all((0..64).map(record).collect(), Timestamp::default());
        assert!(inserted.iter().all(Result::is_ok));
        let inner = Buckets {
            set: Arc::clone(&set) as _,
            epochs: Current::new(Arc::new(EPOCH.to_vec())),
            workers: TaskPool::start("spent", 1, 8).unwrap(),
            rate: Arc::new(Meter::new(rate)),
            places: Arc::new(Semaphore::new(2)),
            shares: Arc::new(Shares::new(PLACES_EACH)),
            answers: Arc::default(),
            page: 1,
            max_bucket: 32,
            small_bucket,
        };
        (set, Arc::new(inner))
    }

    async fn ask(inner: &Arc<Buckets>, path: String) -> Response {
        let router = SpentBuckets(Arc::clone(inner)).router();
        router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn pages_add_up_and_a_cut_is_noticed_anywhere() {
        let (_, inner) = served();
        let prefix = Prefix::new(3, 1).unwrap();
        let response = ask(&inner, bucket_path(EPOCH[0], prefix)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected: Vec<_> = (32..64).map(nullifier).collect();
        assert_eq!(read_pages(&body, prefix), Ok(expected));
        for length in 0..body.len() {
            assert_eq!(read_pages(&body[..length], prefix), Err(DecodeError::Truncated), "{length}");
        }
        assert_eq!(read_pages(&[&body[..], &[0]].concat(), prefix), Err(DecodeError::Trailing));
        // What was not asked for, and what comes twice or in another order.
        assert_eq!(read_pages(&body, Prefix::new(3, 2).unwrap()), Err(DecodeError::Field("nullifier")));
        let mut twice = body[..36].to_vec();
        twice.extend_from_slice(&body);
        assert_eq!(read_pages(&twice, prefix), Err(DecodeError::Field("order of nullifiers")));
        let huge = [&[0xff; 4][..], &body[4..]].concat();
        assert_eq!(read_pages(&huge, prefix), Err(DecodeError::Truncated));
    }

    #[tokio::test]
    async fn a_set_that_fails_meanwhile_breaks_the_answer_off() {
        let (set, inner) = served();
        let mut body = ask(&inner, bucket_path(EPOCH[0], Prefix::new(2, 0).unwrap())).await.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        set.close(EPOCH[0]).unwrap();
        set.retire(EPOCH[0]).unwrap();
        assert!(body.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_partition_that_is_not_there_is_no_empty_one() {
        let (_, inner) = served();
        for path in [bucket_path(EPOCH[1], Prefix::WHOLE), spent_path(EPOCH[1])] {
            assert_eq!(ask(&inner, path).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_where_more_may_be_told() {
        let (_, inner) = served();
        assert_eq!(ask(&inner, bucket_path(EPOCH[0], Prefix::WHOLE)).await.status(), StatusCode::BAD_REQUEST);
        assert_eq!(ask(&inner, bucket_path(EPOCH[0], Prefix::new(1, 0).unwrap())).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_stalled_reader_keeps_its_place_and_a_hang_up_frees_it() {
        let (_, inner) = served();
        let path = || bucket_path(EPOCH[0], Prefix::new(2, 0).unwrap());
        let mut unread = vec![ask(&inner, path()).await, ask(&inner, path()).await];
        assert_eq!(ask(&inner, path()).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        unread.pop();
        for _ in 0..500 {
            if inner.places.available_permits() > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(ask(&inner, path()).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn cheap_questions_cost_no_quota_and_miss_nothing() {
        let (set, inner) = served_with(1 << 10, Rate { per_minute: 0, burst: 0 });
        let path = || bucket_path(EPOCH[0], Prefix::WHOLE);
        let mut known = 64;
        for round in 0..200 {
            let asked: Vec<_> = (0..8).map(|_| ask(&inner, path())).collect();
            for asked in asked {
                let body = asked.await.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(read_pages(&body, Prefix::WHOLE).unwrap().len(), known);
            }
            assert_eq!(ask(&inner, spent_path(EPOCH[0])).await.status(), StatusCode::OK);
            // What is kept is not told after something else was spent.
            if round % 20 == 0 {
                set.insert(record(64 + round / 20), Timestamp::default()).unwrap();
                known += 1;
            }
        }
        set.close(EPOCH[0]).unwrap();
        set.retire(EPOCH[0]).unwrap();
        assert_eq!(ask(&inner, path()).await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn long_answers_are_rationed_for_each_sender() {
        let (_, inner) = served_with(0, Rate { per_minute: 0, burst: 1 });
        let from = |n: u8| Sender::of_address([192, 0, 2, n].into());
        let asked = |n| {
            let inner = Arc::clone(&inner);
            async move { inner.bucket(from(n), "1", "2/0000").await.map(drop) }
        };
        asked(1).await.unwrap();
        assert_eq!(asked(1).await.unwrap_err().kind(), Some(Problem::Busy));
        asked(2).await.unwrap();
    }
}
