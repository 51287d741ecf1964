//! The operator's view of a gateway whose disk is full: everything says so, in the system's words, until there is room again.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use halometer::circuits::note::Nullifier;
use halometer::http::exchange::PaymentLayerParts;
use halometer::http::layer::PaymentLayer;
use halometer::http::observer::Observer;
use halometer::http::operate::{OperateParts, Operations, ServingState, Tally};
use halometer::http::pricing::FixedPricing;
use halometer::protocol::*;
use halometer::store::*;
use halometer::testing::market::{Market, MarketOptions};
use http::Request as HttpRequest;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// What the system says of a full disk.
const FULL: &str = "No space left on device";

/// A set on a disk that is full now and then.
struct OnDisk {
    set: MemorySpentSet,
    full: AtomicBool,
}

impl OnDisk {
    fn room(&self) -> Result<(), StoreError> {
        match self.full.load(Ordering::SeqCst) {
            // ENOSPC.
            true => Err(StoreError::Failed(Box::new(io::Error::from_raw_os_error(28)))),
            false => Ok(()),
        }
    }
}

impl SpentSet for OnDisk {
    fn create(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.room()?;
        self.set.create(epoch)
    }
    fn close(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.room()?;
        self.set.close(epoch)
    }
    fn retire(&self, epoch: EpochNumber) -> Result<(), StoreError> {
        self.room()?;
        self.set.retire(epoch)
    }
    fn partitions(&self) -> Result<Vec<(EpochNumber, PartitionPhase)>, StoreError> {
        self.room()?;
        self.set.partitions()
    }
    fn beat(&self, look: Look) -> Result<Beat, StoreError> {
        self.room()?;
        self.set.beat(look)
    }
    fn pulse(&self) -> Result<Option<Pulse>, StoreError> {
        self.room()?;
        self.set.pulse()
    }
    fn find(&self, epoch: EpochNumber, nullifier: &Nullifier) -> Result<Option<Record>, StoreError> {
        self.room()?;
        self.set.find(epoch, nullifier)
    }
    fn insert_all(&self, records: Vec<Record>, now: Timestamp) -> Vec<Result<Insertion, StoreError>> {
        match self.room() {
            Ok(()) => self.set.insert_all(records, now),
            Err(_) => records.iter().map(|_| self.room().map(|()| Insertion::Fresh)).collect(),
        }
    }
    fn insert_pair(&self, pair: [Record; 2], now: Timestamp) -> Result<PairInsertion, StoreError> {
        self.room()?;
        self.set.insert_pair(pair, now)
    }
    fn meter(&self, key: &RecordKey, owner: OwnerId, metered: Credits, now: Timestamp) -> Result<(), StoreError> {
        self.room()?;
        self.set.meter(key, owner, metered, now)
    }
    fn take_over(&self, key: &RecordKey, lease: Lease, now: Timestamp) -> Result<Record, StoreError> {
        self.room()?;
        self.set.take_over(key, lease, now)
    }
    fn settle(
        &self,
        key: &RecordKey,
        owner: OwnerId,
        now: Timestamp,
        settlement: &Settlement,
    ) -> Result<Settlement, StoreError> {
        self.room()?;
        self.set.settle(key, owner, now, settlement)
    }
    fn erase_evidence(&self, epoch: EpochNumber, before: Timestamp) -> Result<u64, StoreError> {
        self.room()?;
        self.set.erase_evidence(epoch, before)
    }
    fn lapsed(&self, epoch: EpochNumber, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, StoreError> {
        self.room()?;
        self.set.lapsed(epoch, now, limit)
    }
    fn bucket(
        &self,
        epoch: EpochNumber,
        prefix: Prefix,
        after: Option<&Nullifier>,
        limit: usize,
    ) -> Result<Vec<Nullifier>, StoreError> {
        self.room()?;
        self.set.bucket(epoch, prefix, after, limit)
    }
    fn scan(&self, epoch: EpochNumber, after: Option<&Nullifier>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.room()?;
        self.set.scan(epoch, after, limit)
    }
    fn totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.room()?;
        self.set.totals(epoch)
    }
    fn erased_totals(&self, epoch: EpochNumber) -> Result<Totals, StoreError> {
        self.room()?;
        self.set.erased_totals(epoch)
    }
}

/// What the operator was told, in its order.
#[derive(Default)]
struct Said(Mutex<Vec<Option<String>>>);

impl Observer for Said {
    fn trouble(&self, trouble: Option<&str>) {
        self.0.lock().unwrap().push(trouble.map(str::to_owned));
    }
}

async fn ask(operations: &Operations, path: &str) -> (u16, String) {
    let request = HttpRequest::get(path).header("host", "localhost").body(Body::empty()).unwrap();
    let answer = operations.router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn until(operations: &Operations, what: &str, path: &str, reached: impl Fn(u16, &str) -> bool) -> String {
    for _ in 0..600 {
        let (status, body) = ask(operations, path).await;
        if reached(status, &body) {
            return body;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: {:?}", ask(operations, path).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_in_the_systems_words_everywhere() {
    let set = Arc::new(OnDisk { set: MemorySpentSet::new(), full: AtomicBool::new(false) });
    let options = MarketOptions { set: set.clone(), ..MarketOptions::new("http://127.0.0.1:9", 100, &[("call", 1)]) };
    let market = tokio::task::spawn_blocking(move || Market::open(options).unwrap()).await.unwrap();
    let said = Arc::new(Said::default());
    let tally = Arc::new(Tally::new(said.clone()));
    let pricing = Box::new(FixedPricing::new());
    let parts = PaymentLayerParts::new(market.gateway().clone(), market.issuer().clone(), market.key(), pricing);
    let layer = PaymentLayer::start(parts.with_observer(tally.clone())).unwrap();
    let operations = Operations::start(OperateParts::new(layer, tally).with_every(Duration::from_secs(1))).unwrap();
    assert_eq!(ask(&operations, "/readyz").await, (503, "not ready: starting\n".to_owned()));
    operations.set_state(ServingState::Serving);
    until(&operations, "not ready at first", "/readyz", |status, _| status == 200).await;

    set.full.store(true, Ordering::SeqCst);
    let why = until(&operations, "nothing is noticed", "/readyz", |status, _| status == 503).await;
    assert!(why.contains(FULL), "{why}");
    let metrics = until(&operations, "the metrics", "/metrics", |status, text| {
        status == 200 && text.contains("halometer_store_failed 1")
    });
    assert!(metrics.await.contains("halometer_ready 0"));
    let status = until(&operations, "the status", "/status.json", |_, text| text.contains(FULL)).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["gateway"]["ready"], false);
    assert!(until(&operations, "the page", "/", |_, text| text.contains(FULL)).await.contains("<"));
    let told = said.0.lock().unwrap().clone();
    assert!(matches!(&told[..], [Some(words)] if words.contains(FULL)), "told once, when it began: {told:?}");

    set.full.store(false, Ordering::SeqCst);
    until(&operations, "it does not go on", "/readyz", |status, _| status == 200).await;
    until(&operations, "the metrics afterwards", "/metrics", |_, text| text.contains("halometer_store_failed 0")).await;
    assert_eq!(said.0.lock().unwrap().last(), Some(&None), "that it is over is told as well");
}
