//! A box in front of the gateway that lies, loses and hangs on request, and keeps every spend that passed it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use halometer::http::payment::{Credential, Payload, RECEIPT_HEADER};
use halometer::http::problem::ProblemDetails;
use halometer::http::server::{Listener, Server};
use halometer::http::wire::{CANCEL_PATH, ROLLOVER_PATH, SESSION_PATH, TRANSFER_PATH};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::world::World;

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Passed on, and its answer brought back.
    Pass,
    /// Refused, and not passed on.
    Refuse(Problem),
    /// Passed on, and refused for all that.
    Lie(Problem),
    /// Passed on, its answer lost.
    Lose(StatusCode),
    /// Passed on, and then the connection breaks off.
    Swallow,
    /// Passed on, its answer without what it says of the settlement.
    Withhold,
    /// Passed on twice.
    Double,
    /// Passed on, its answer late.
    Delay(Duration),
    /// Answered by nothing.
    Hang,
    /// Not passed on, and answered like this.
    Answer(StatusCode, Bytes),
    /// Passed on, its settlement changed in one byte.
    Spoil,
    /// Passed on once, and from then on answered as it was answered then, with its age or without.
    Keep { says_age: bool },
}

type Script = Box<dyn Fn(&str, usize) -> Act + Send + Sync>;

pub(crate) struct Front {
    _server: Server,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    gateway: OnceLock<String>,
    script: OnceLock<Script>,
    requests: AtomicUsize,
    spends: Mutex<HashMap<[u8; 32], Vec<u8>>>,
    shares: Mutex<Vec<String>>,
    kept: Mutex<HashMap<String, (Instant, HeaderMap, Bytes)>>,
}

/// A world whose directory says that the gateway is the box.
pub(crate) async fn behind(
    options: StackOptions,
    script: impl Fn(&str, usize) -> Act + Send + Sync + 'static,
) -> (World, Front) {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let origin = format!("http://{}", listener.address());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..options }).await;
    let seen = Arc::new(Seen::default());
    seen.gateway.set(world.stack.gateway_url()).unwrap();
    assert!(seen.script.set(Box::new(script)).is_ok());
    let passing = Arc::clone(&seen);
    let server = listener.serve(Router::new().fallback(move |request| pass(Arc::clone(&passing), request)));
    (world, Front { _server: server, seen })
}

impl Front {
    /// Spends of which two different ones of one note passed.
    pub(crate) fn second_shares(&self) -> Vec<String> {
        self.seen.shares.lock().unwrap().clone()
    }

    /// Number of notes that were spent.
    pub(crate) fn notes(&self) -> usize {
        self.seen.spends.lock().unwrap().len()
    }
}

impl Seen {
    fn note(&self, spend: &Spend) {
        let (nullifier, bytes) = (spend.nullifier.to_bytes(), spend.to_bytes());
        let mut spends = self.spends.lock().unwrap();
        let first = spends.entry(nullifier).or_insert_with(|| bytes.clone());
        if *first != bytes {
            self.shares.lock().unwrap().push(format!("{:?}", spend.purpose));
        }
    }

    fn record(&self, path: &str, headers: &HeaderMap, body: &[u8]) {
        let values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        if let Ok(Credential { payload: Payload::Opening(bytes), .. }) = Credential::from_header_values(values) {
            self.note(&Opening::from_bytes(&bytes).unwrap().spend);
        }
        match path {
            CANCEL_PATH => self.note(&Cancellation::from_bytes(body).unwrap().spend),
            ROLLOVER_PATH | SESSION_PATH => self.note(&Opening::from_bytes(body).unwrap().spend),
            TRANSFER_PATH => Transfer::from_bytes(body).unwrap().halves.iter().for_each(|half| self.note(&half.spend)),
            _ => {}
        }
    }
}

async fn pass(seen: Arc<Seen>, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    seen.record(&path, &parts.headers, &body);
    // Looks at the challenge have no number in the script.
    let act = match path.as_str() {
        "/" => seen.script.get().unwrap()("/", usize::MAX),
        path => seen.script.get().unwrap()(path, seen.requests.fetch_add(1, Ordering::SeqCst)),
    };
    let passed = async || {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("{}{}", seen.gateway.get().unwrap(), parts.uri);
        let sent = client.request(parts.method.clone(), url).headers(parts.headers.clone()).body(body.clone());
        let answer = sent.send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        // It is passed on whole.
        headers.remove(header::TRANSFER_ENCODING);
        (status, headers, answer.bytes().await.unwrap())
    };
    match act {
        Act::Pass => passed().await.into_response(),
        Act::Refuse(problem) => ProblemDetails::new(problem, "so the box says").into_response(),
        Act::Lie(problem) => {
            passed().await;
            ProblemDetails::new(problem, "so the box says").into_response()
        }
        Act::Lose(status) => {
            passed().await;
            status.into_response()
        }
        Act::Swallow => {
            passed().await;
            panic!("the box breaks its connection off");
        }
        Act::Withhold => {
            let (status, mut headers, body) = passed().await;
            headers.remove(RECEIPT_HEADER);
            (status, headers, body).into_response()
        }
        Act::Double => {
            passed().await;
            passed().await.into_response()
        }
        Act::Delay(pause) => {
            let answer = passed().await;
            tokio::time::sleep(pause).await;
            answer.into_response()
        }
        Act::Hang => std::future::pending().await,
        Act::Answer(status, body) => (status, body).into_response(),
        Act::Keep { says_age } => {
            let (target, kept) = (parts.uri.to_string(), |seen: &Seen| seen.kept.lock().unwrap().clone());
            if !kept(&seen).contains_key(&target) {
                let (_, headers, body) = passed().await;
                seen.kept.lock().unwrap().insert(target.clone(), (Instant::now(), headers, body));
            }
            let (since, mut headers, body) = kept(&seen)[&target].clone();
            // Rounded up, as nothing here waits for a second.
            let age = HeaderValue::from(since.elapsed().as_secs() + u64::from(!since.elapsed().is_zero()));
            if says_age {
                headers.insert(header::AGE, age);
            }
            (headers, body).into_response()
        }
        Act::Spoil => {
            let (status, mut headers, body) = passed().await;
            let spoilt = headers.get(RECEIPT_HEADER).map(|value| {
                let mut receipt =
                    halometer::http::payment::PaymentReceipt::from_header_value(value.to_str().unwrap()).unwrap();
                // A character in the middle: the signature.
                let settlement = receipt.settlement.as_mut().unwrap();
                let change = if &settlement[60..61] == "A" { "B" } else { "A" };
                settlement.replace_range(60..61, change);
                HeaderValue::from_str(&receipt.to_header_value()).unwrap()
            });
            spoilt.into_iter().for_each(|value| drop(headers.insert(RECEIPT_HEADER, value)));
            (status, headers, body).into_response()
        }
    }
}
