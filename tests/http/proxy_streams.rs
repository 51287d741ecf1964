//! Answers that are passed on as they come: settled by a trailer, by asking, or after a hang-up.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use halometer::http::payer::{CallError, Event, PayerParts};
use halometer::http::payment::{PaymentReceipt, RECEIPT_HEADER};
use halometer::http::proxy::ProxyOptions;
use halometer::http::server::{Listener, Server};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use halometer::wallet::{DisputeKind, Journal as _, ReceiptVerdict};
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::body::Frame;
use tokio::sync::{Semaphore, mpsc};

use crate::payer_hostile::{TestPayer, impatient, started, until};
use crate::proxy::{Proxied, json};
use crate::world::{PAID, QUESTION, TARGET, World};

/// How the box gives an answer.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// In chunks, the receipt in a trailer.
    Trailer,
    /// The same, after an event that says that it is over; the trailer is late.
    Done,
    /// In chunks, without a receipt.
    Silent,
    /// Some chunks, and then nothing more.
    Break,
    /// The settlement in the trailer is none.
    Spoil,
    /// 64 MiB, which the service never gave.
    Flood,
}

const CHUNKS: usize = 8;
const FLOOD: usize = 1_024;

/// Between payer and gateway stands something that makes streams of whole answers.
struct Boxed {
    _server: Server,
    seen: Arc<Seen>,
}

struct Seen {
    gateway: OnceLock<String>,
    way: Mutex<Way>,
    /// A chunk takes one.
    gate: Semaphore,
    sent: AtomicUsize,
    hung_up: AtomicUsize,
}

async fn boxed(way: Way, open: usize) -> (World, Boxed) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", listener.address());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let seen = Arc::new(Seen {
        gateway: OnceLock::from(world.stack.gateway_url()),
        way: Mutex::new(way),
        gate: Semaphore::new(open),
        sent: AtomicUsize::new(0),
        hung_up: AtomicUsize::new(0),
    });
    let passing = Arc::clone(&seen);
    let server = listener.serve(Router::new().fallback(move |request| pass(Arc::clone(&passing), request)));
    (world, Boxed { _server: server, seen })
}

struct Stream(mpsc::Receiver<Result<Frame<Bytes>, io::Error>>);

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx)
    }
}

async fn pass(seen: Arc<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let url = format!("{}{}", seen.gateway.get().unwrap(), parts.uri);
    let answer =
        client.request(parts.method.clone(), url).headers(parts.headers.clone()).body(body).send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    let whole = answer.bytes().await.unwrap();
    let Some(receipt) = headers.remove(RECEIPT_HEADER) else { return (status, headers, whole).into_response() };
    assert_eq!(parts.headers.get(header::TE), Some(&HeaderValue::from_static("trailers")));
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::TRAILER, HeaderValue::from_static("payment-receipt"));
    let (send, frames) = mpsc::channel(1);
    let way = *seen.way.lock().unwrap();
    tokio::spawn(async move {
        let size = whole.len().div_ceil(CHUNKS);
        let chunks: Vec<Bytes> = match way {
            Way::Flood => vec![vec![7; 64 << 10].into(); FLOOD],
            Way::Break => whole.chunks(size).take(3).map(Bytes::copy_from_slice).collect(),
            _ => whole.chunks(size).map(Bytes::copy_from_slice).collect(),
        };
        for chunk in chunks {
            tokio::select! {
                () = send.closed() => {}
                permit = seen.gate.acquire() => permit.unwrap().forget(),
            }
            if send.send(Ok(Frame::data(chunk))).await.is_err() {
                seen.hung_up.fetch_add(1, Ordering::SeqCst);
                return;
            }
            seen.sent.fetch_add(1, Ordering::SeqCst);
        }
        if matches!(way, Way::Done) {
            send.send(Ok(Frame::data("data: [DONE]\n\n".into()))).await.unwrap();
            seen.gate.acquire().await.unwrap().forget();
        }
        let last = match way {
            Way::Break => Err(io::Error::other("the box breaks off")),
            Way::Silent => return,
            Way::Trailer | Way::Done | Way::Flood => Ok(receipt),
            Way::Spoil => {
                let mut receipt = PaymentReceipt::from_header_value(receipt.to_str().unwrap()).unwrap();
                let settlement = receipt.settlement.as_mut().unwrap();
                let change = if &settlement[60..61] == "A" { "B" } else { "A" };
                settlement.replace_range(60..61, change);
                Ok(HeaderValue::from_str(&receipt.to_header_value()).unwrap())
            }
        };
        let last = last.map(|receipt| Frame::trailers(HeaderMap::from_iter([(RECEIPT_HEADER, receipt)])));
        let _ = send.send(last).await;
    });
    (status, headers, Body::new(Stream(frames))).into_response()
}

/// Whose streams pause as long as a busy machine likes.
fn patient(world: &World) -> PayerParts {
    impatient(world).with_answer_timeout(Duration::from_secs(60))
}

async fn payer(world: &World) -> TestPayer {
    started(world.caller().wallet, patient(world)).await
}

async fn begin(payer: &TestPayer) -> halometer::http::payer::Streamed {
    payer.stream(Method::POST, TARGET, json(), QUESTION.into()).await.unwrap()
}

/// Everything came back, and the books balance.
async fn all_is_well(world: &World, payer: &TestPayer) {
    let status = until(payer, "spends are in flight", |status| status.in_flight == 0).await;
    assert_eq!((status.frozen, status.unchecked, status.lanes), (0, 0, LANES));
    assert_eq!((status.balance.total(), world.held()), (u128::from(PAID - world.charged()), 0));
    assert!(world.stack.evidence().is_empty(), "nobody was named");
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_arrive_live_and_the_trailer_settles_the_answer() {
    let (world, boxed) = boxed(Way::Trailer, 1).await;
    let payer = payer(&world).await;
    let mut streamed = begin(&payer).await;
    assert_eq!(streamed.settled, None);
    assert!(streamed.body.chunk().await.unwrap().is_ok(), "the first, while there is no second");
    assert_eq!((boxed.seen.sent.load(Ordering::SeqCst), payer.status().await.unwrap().in_flight), (1, 1));
    boxed.seen.gate.add_permits(CHUNKS);
    let mut chunks = 1;
    while let Some(chunk) = streamed.body.chunk().await {
        assert!(!chunk.unwrap().is_empty());
        chunks += 1;
    }
    assert!(chunks >= 3, "{chunks}");
    let settled = streamed.body.settled().await.unwrap();
    assert_eq!((settled.accepted.cost.micro(), settled.receipt), (world.charged(), ReceiptVerdict::Fair));
    all_is_well(&world, &payer).await;
    // Whole, if that is wanted.
    boxed.seen.gate.add_permits(CHUNKS);
    let paid = payer.call(Method::POST, TARGET, json(), QUESTION.into()).await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&paid.body).is_ok());
    assert_eq!(paid.receipt, ReceiptVerdict::Fair);
    all_is_well(&world, &payer).await;
}

/// As the official clients do.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gone_at_the_last_event_is_settled_by_the_trailer() {
    let (world, boxed) = boxed(Way::Done, CHUNKS).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let observer = Arc::new(move |event: &Event| kept.lock().unwrap().push(event.clone()));
    let payer = started(world.caller().wallet, patient(&world).with_observer(observer)).await;
    let mut streamed = begin(&payer).await;
    while !streamed.body.chunk().await.unwrap().unwrap().ends_with(b"[DONE]\n\n") {}
    drop(streamed);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(payer.status().await.unwrap().in_flight, 1);
    boxed.seen.gate.add_permits(1);
    all_is_well(&world, &payer).await;
    let told = told.lock().unwrap();
    assert!(
        told.iter().any(|event| matches!(event, Event::CallPaid { receipt: ReceiptVerdict::Fair, .. })),
        "{told:?}"
    );
    assert!(!told.iter().any(|event| matches!(event, Event::Pursued(_))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trailer_the_settlement_is_asked_for() {
    let (world, _boxed) = boxed(Way::Silent, 1_000).await;
    let payer = payer(&world).await;
    let mut streamed = begin(&payer).await;
    while let Some(chunk) = streamed.body.chunk().await {
        chunk.unwrap();
    }
    assert_eq!(streamed.body.settled().await.unwrap().accepted.cost.micro(), world.charged());
    all_is_well(&world, &payer).await;
    // Also if nobody waits for what it came to.
    let mut streamed = begin(&payer).await;
    while streamed.body.chunk().await.is_some() {}
    drop(streamed);
    all_is_well(&world, &payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_answer_is_noticed_and_still_settled() {
    let (world, _boxed) = boxed(Way::Break, 1_000).await;
    let proxied = Proxied::with(&world, patient(&world), ProxyOptions::default()).await;
    let answer = proxied.question().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "half an answer is not taken for a whole one");
    all_is_well(&world, &proxied.payer).await;
    let lost = proxied.payer.call(Method::POST, TARGET, json(), QUESTION.into()).await.unwrap_err();
    assert!(matches!(lost, CallError::Lost(accepted) if accepted.cost.micro() * 2 == world.charged()), "{lost:?}");
    all_is_well(&world, &proxied.payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hang_up_stops_the_work_and_frees_its_lane() {
    let (world, boxed) = boxed(Way::Trailer, 2).await;
    let proxied = Proxied::with(&world, patient(&world), ProxyOptions::default()).await;
    let mut answer = proxied.question().send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(proxied.payer.status().await.unwrap().in_flight, 1);
    drop((answer, proxied.client));
    crate::world::until(|| boxed.seen.hung_up.load(Ordering::SeqCst) == 1).await;
    all_is_well(&world, &proxied.payer).await;
    assert!(proxied.proxy.drain(Duration::from_secs(5)).await, "nothing is under way any more");

    // The same for a holder of the body.
    let streamed = begin(&proxied.payer).await;
    let outcome = streamed.body.settled().await;
    assert!(matches!(outcome, Err(CallError::HungUp)), "{outcome:?}");
    crate::world::until(|| boxed.seen.hung_up.load(Ordering::SeqCst) == 2).await;
    all_is_well(&world, &proxied.payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_slows_the_gateway_down() {
    let (world, boxed) = boxed(Way::Flood, FLOOD).await;
    let proxied = Proxied::with(&world, patient(&world), ProxyOptions::default()).await;
    let mut answer = proxied.question().send().await.unwrap();
    let mut read = answer.chunk().await.unwrap().unwrap().len();
    let mut last = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let sent = boxed.seen.sent.load(Ordering::SeqCst);
        if sent == last {
            break;
        }
        last = sent;
    }
    assert!(last < FLOOD * 3 / 4, "{last} chunks wait in buffers that must be small");
    while let Some(chunk) = answer.chunk().await.unwrap() {
        read += chunk.len();
    }
    assert_eq!(read, FLOOD * (64 << 10));
    all_is_well(&world, &proxied.payer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_trailer_is_a_dispute_and_the_settlement_is_fetched() {
    let (world, _boxed) = boxed(Way::Spoil, 1_000).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let observer = Arc::new(move |event: &Event| kept.lock().unwrap().push(event.clone()));
    let payer = started(world.caller().wallet, patient(&world).with_observer(observer)).await;
    let mut streamed = begin(&payer).await;
    while let Some(chunk) = streamed.body.chunk().await {
        chunk.unwrap();
    }
    let outcome = streamed.body.settled().await;
    assert!(matches!(outcome, Err(CallError::Settlement(_))), "{outcome:?}");
    all_is_well(&world, &payer).await;
    assert!(told.lock().unwrap().contains(&Event::DisputeKept(DisputeKind::BadSettlement)));
    let disputes = payer.with_wallet(|wallet| wallet.journal().disputes().unwrap().len()).await.unwrap();
    assert_eq!(disputes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_dropped_at_any_point_leave_nothing_half_done() {
    let (world, boxed) = boxed(Way::Trailer, 100_000).await;
    let payer = payer(&world).await;
    payer.wait_ready(4).await.unwrap();
    for round in 0..40_u64 {
        *boxed.seen.way.lock().unwrap() = [Way::Trailer, Way::Silent, Way::Break][round as usize % 3];
        // From before the first poll to after the settlement.
        let patience = Duration::from_micros(round * round * 90);
        let _ = tokio::time::timeout(patience, async {
            let mut streamed = begin(&payer).await;
            while streamed.body.chunk().await.is_some_and(|chunk| chunk.is_ok()) {}
            drop(streamed.body.settled().await);
        })
        .await;
    }
    all_is_well(&world, &payer).await;
    payer.wait_ready(LANES).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_streams_and_the_wallet_knows_the_open_calls() {
    let (world, _boxed) = boxed(Way::Trailer, 1).await;
    let proxied = Proxied::with(&world, patient(&world), ProxyOptions::default()).await;
    let mut answer = proxied.question().send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    let wallet = proxied.payer.shutdown().await.expect("the wallet");
    assert!(answer.chunk().await.is_err(), "the client is told");
    assert_eq!((wallet.balance().total(), wallet.balance().reserved), (u128::from(PAID), 4_000));
    let refused = proxied.question().send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["x-should-retry"]),
        (503, &HeaderValue::from_static("false"))
    );
    let payer = started(wallet, patient(&world)).await;
    all_is_well(&world, &payer).await;
}

/// A service that streams, as the gateway passes it on.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_service_arrive_as_they_were_sent() {
    let world = World::new().await;
    let proxied = Proxied::with(&world, patient(&world), ProxyOptions::default()).await;
    let question = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":100,
        "messages":[{"role":"user","content":"Why do cats knead blankets?"}]}"#;
    let answer = proxied.json(question).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\"usage\":{"), "{text}");
    let words: String = text
        .split("\n\n")
        .filter_map(|event| serde_json::from_str::<serde_json::Value>(event.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert!(words.contains("blankets") || words.len() > 40, "{words}");
    all_is_well(&world, &proxied.payer).await;
}
