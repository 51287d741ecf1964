//! Answers that are passed on as they come: what they cost however they end, and where their settlement is found.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use halometer::http::exchange::GatewayLimits;
use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::payment::{PaymentReceipt, RECEIPT_HEADER};
use halometer::http::pricing::{BytePricing, INPUT_TOKEN, OUTPUT_TOKEN};
use halometer::protocol::*;
use halometer::store::RecordState;
use halometer::testing::stack::StackOptions;
use halometer::wallet::Policy;
use http::{HeaderMap, Method, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::world::{CLASS, Caller, TARGET, World, assert_refused, lane, shared, until};
use halometer::http::clock::now;

const ASKING: &str = r#"{"stream":true,"messages":[]}"#;
/// Two credits for each of the tokens that are estimated for it.
const ASKING_COST: u64 = 2 * (ASKING.len() as u64).div_ceil(3);
const DONE: &str = "data: [DONE]\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":30}}\n\n";

fn said(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":null}}\n\n")
}

/// A service that answers as the test goes on.
struct Script {
    say: Option<mpsc::Sender<io::Result<Bytes>>>,
    service: Router,
    /// Answers that nobody wants any more, and those that are over.
    dropped: Arc<AtomicUsize>,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Scripted(mpsc::Receiver<io::Result<Bytes>>, Arc<AtomicUsize>);

impl hyper::body::Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|said| said.map(|said| said.map(Frame::data)))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl Script {
    fn new(kind: &'static str) -> Self {
        let (say, heard) = mpsc::channel(1);
        let (dropped, asked) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<String>>>::default());
        let body = Arc::new(Mutex::new(Some(Scripted(heard, dropped.clone()))));
        let requests = asked.clone();
        let service = Router::new().fallback(move |request: String| async move {
            requests.lock().unwrap().push(request);
            ([("content-type", kind)], Body::new(body.lock().unwrap().take().unwrap()))
        });
        Self { say: Some(say), service, dropped, asked }
    }

    fn events() -> Self {
        Self::new("text/event-stream; charset=utf-8")
    }

    async fn world(&self) -> Arc<World> {
        self.world_with(StackOptions::default()).await
    }

    async fn world_with(&self, options: StackOptions) -> Arc<World> {
        shared(World::selling_with(self.service.clone(), options).await)
    }

    async fn say(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        self.say.as_ref().unwrap().send(Ok(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    }

    async fn break_off(&mut self) {
        self.say.take().unwrap().send(Err(io::Error::other("it broke"))).await.unwrap();
    }

    fn end(&mut self) {
        self.say = None;
    }

    async fn is_dropped(&self) {
        until(|| self.dropped.load(Ordering::SeqCst) == 1).await;
    }
}

/// An answer on its way.
struct Answering(Response<reqwest::Body>);

impl Answering {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, reqwest::Error>> {
        tokio::time::timeout(Duration::from_secs(20), self.0.body_mut().frame()).await.expect("in time")
    }

    /// As much as was said.
    async fn hear(&mut self, text: &str) {
        let mut heard = Vec::new();
        while heard.len() < text.len() {
            heard.extend(self.next().await.expect("more").unwrap().into_data().unwrap());
        }
        assert_eq!(String::from_utf8(heard).unwrap(), text);
    }

    /// What is left, and the trailers; an error if it breaks off.
    async fn rest(mut self) -> Result<(String, HeaderMap), reqwest::Error> {
        let (mut heard, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(frame) = self.next().await {
            match frame?.into_data() {
                Ok(data) => heard.extend(data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            }
        }
        Ok((String::from_utf8(heard).unwrap(), trailers))
    }
}

async fn ask(world: &World, opening: &[u8], body: &'static str, trailers: bool, version: Version) -> Answering {
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let client = match version {
        Version::HTTP_2 => builder.http2_prior_knowledge(),
        _ => builder,
    };
    let url = format!("{}{TARGET}", world.stack.gateway_url());
    let request = client.build().unwrap().post(url).header("authorization", world.opening(opening)).body(body);
    let request = if trailers { request.header("te", "trailers") } else { request };
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    assert!(!answer.headers().contains_key(RECEIPT_HEADER));
    assert!(answer.headers().get_all("cache-control").iter().any(|value| value == "private"));
    assert_eq!(answer.headers().contains_key("trailer"), trailers);
    Answering(answer.into())
}

async fn ask_plainly(world: &World, opening: &[u8]) -> Answering {
    ask(world, opening, ASKING, false, Version::HTTP_11).await
}

/// What it cost, by the settlement that can be fetched once there is one.
async fn settled(world: &World, caller: &mut Caller, key: &SpendKey) -> u64 {
    until(|| world.held() == 0).await;
    let settlement = world.fetch(caller, key).await.fetched();
    let cost = caller.wallet.accept(key, &settlement, now()).unwrap().cost.micro();
    assert_eq!(world.charged(), cost);
    cost
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_comes_as_it_is_said_and_its_receipt_in_the_trailer() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut script = Script::events();
        let world = script.world().await;
        let mut caller = world.caller();
        let (key, opening) = caller.pay_to_ask(&world, ASKING);
        let asking = ask(&world, &opening, ASKING, true, version);
        let (mut answer, ()) = tokio::join!(asking, script.say(said("one")));
        answer.hear(&said("one")).await;
        assert_refused(&world.fetch(&mut caller, &key).await, Problem::InProgress);
        // In pieces, and in the midst of a line.
        let two = said("two");
        script.say(&two[..9]).await;
        script.say(&two[9..]).await;
        answer.hear(&two).await;
        script.say(USAGE).await;
        script.say(DONE).await;
        script.end();
        let (rest, trailers) = answer.rest().await.unwrap();
        // The gateway had asked for the usage, and the caller had not.
        assert_eq!(rest, DONE);
        let asked = script.asked.lock().unwrap().clone();
        assert_eq!(asked, [r#"{"stream":true,"messages":[],"stream_options":{"include_usage":true}}"#]);

        let receipt = trailers[RECEIPT_HEADER].to_str().unwrap();
        let receipt = halometer::http::payment::PaymentReceipt::from_header_value(receipt).unwrap();
        let settlement = Settlement::from_bytes(&receipt.settlement().unwrap()).unwrap();
        assert_eq!(world.fetch(&mut caller, &key).await.fetched(), settlement);
        let signed = halometer::protocol::Receipt::from_bytes(&receipt.signed().unwrap().unwrap()).unwrap();
        assert_eq!(signed.usage(), [(INPUT_TOKEN.to_owned(), 20), (OUTPUT_TOKEN.to_owned(), 30)]);
        assert_eq!((receipt.cost, settled(&world, &mut caller, &key).await), (280, 280));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_and_usage_go_only_to_clients_that_ask() {
    const ASKING: &str = r#"{"stream":true,"stream_options":{"include_usage":true}}"#;
    let mut script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let asking = ask(&world, &opening, ASKING, false, Version::HTTP_11);
    let (answer, ()) = tokio::join!(asking, script.say(said("one")));
    script.say(USAGE).await;
    script.end();
    let (rest, trailers) = answer.rest().await.unwrap();
    assert_eq!((rest, trailers.len()), (format!("{}{USAGE}", said("one")), 0));
    assert_eq!(script.asked.lock().unwrap()[0], ASKING);
    assert_eq!(settled(&world, &mut caller, &key).await, 280);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_usage_is_estimated() {
    let mut script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let (answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(said("123456789")));
    script.say("data: {\"choices\":[],\"usage\":null}\n\ndata: not json\n\nnonsense\n\n").await;
    script.end();
    assert!(answer.rest().await.unwrap().0.ends_with("nonsense\n\n"));
    // Nine bytes of text and eight that are no JSON.
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_stops_the_service_and_pays_for_what_arrived() {
    let script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let (mut answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(said("123456789")));
    answer.hear(&said("123456789")).await;
    drop(answer);
    script.is_dropped().await;
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stream_is_cancelled_for_what_was_metered() {
    let script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let asking = ask(&world, &opening, ASKING, true, Version::HTTP_2);
    let (mut answer, ()) = tokio::join!(asking, script.say(said("123456789")));
    answer.hear(&said("123456789")).await;
    let cancelled = world.cancel(&caller, &key).await.fetched();
    script.is_dropped().await;
    let (rest, trailers) = answer.rest().await.unwrap();
    assert!(rest.starts_with("data: {\"error\"") && rest.contains("cancelled"), "{rest}");
    let receipt = PaymentReceipt::from_header_value(trailers[RECEIPT_HEADER].to_str().unwrap()).unwrap();
    assert_eq!(receipt.settlement().unwrap(), cancelled.to_bytes());
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_breaks_off_is_paid_for_what_came() {
    let mut script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let (answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(said("123456789")));
    script.say("data: half an ev").await;
    script.break_off().await;
    let rest = answer.rest().await.unwrap().0;
    // The half is not passed on, and its reader is told in the API's own format.
    assert!(rest.strip_prefix(&said("123456789")).unwrap().starts_with("data: {\"error\""), "{rest}");
    assert!(rest.contains("upstream-failed"));
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 3);
    assert_eq!(world.stack.upstream_failures().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_falls_silent_is_given_up() {
    let limits = GatewayLimits::default().with_idle_timeout(Duration::from_millis(300));
    let script = Script::events();
    let world = script.world_with(StackOptions { limits, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let (answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(said("123456789")));
    assert!(answer.rest().await.unwrap().0.contains("upstream-failed"));
    script.is_dropped().await;
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_stops_at_the_cap() {
    let script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    // 100 tokens each, of which two count as one of 8 credits: ten are 4,000, the last of which is not passed on. There is no end to it.
    let event = said(&"words ".repeat(100));
    let talk = async {
        let mut events = 0;
        while script.say.as_ref().unwrap().send(Ok(Bytes::from(event.clone()))).await.is_ok() {
            events += 1;
        }
        events
    };
    let hear = async { ask(&world, &opening, ASKING, true, Version::HTTP_2).await.rest().await.unwrap() };
    let (events, (heard, trailers)) = tokio::join!(talk, hear);
    assert!(events >= 10, "{events}");
    let passed = heard.matches("content").count();
    assert!((9..=11).contains(&passed), "{passed}");
    assert!(heard.ends_with("\n\n") && heard.contains("cap-reached"), "{heard}");
    let receipt = PaymentReceipt::from_header_value(trailers[RECEIPT_HEADER].to_str().unwrap()).unwrap();
    assert_eq!(receipt.cost, CLASS.micro());
    assert_eq!(settled(&world, &mut caller, &key).await, CLASS.micro());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_breaks_off_at_the_cap_with_no_byte_above_it() {
    // Short enough to be kept until it is whole, if it were not for the cap; and a stream.
    for kind in ["application/octet-stream", "application/x-ndjson"] {
        let script = Script::new(kind);
        let pricing = Some(Box::new(BytePricing::new().answer(OUTPUT_TOKEN)) as _);
        let world = script.world_with(StackOptions { pricing, ..StackOptions::default() }).await;
        let mut caller = world.caller();
        let (key, opening) = caller.pay_to_ask(&world, ASKING);
        let talk = async {
            for _ in 0..6 {
                let _ = script.say.as_ref().unwrap().send(Ok(Bytes::from_static(&[b'x'; 100]))).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (mut answer, ()) = tokio::join!(ask_plainly(&world, &opening), talk);
        // 500 bytes are what the charge pays for.
        answer.hear(&"x".repeat(500)).await;
        assert!(answer.rest().await.is_err());
        script.is_dropped().await;
        assert_eq!(settled(&world, &mut caller, &key).await, CLASS.micro());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_the_service_and_is_given_up_in_the_end() {
    let limits = GatewayLimits::default().with_idle_timeout(Duration::from_secs(2));
    let script = Script::events();
    let world = script.world_with(StackOptions { limits, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let asking = ask(&world, &opening, ASKING, false, Version::HTTP_2);
    let (answer, ()) = tokio::join!(asking, script.say(said("1")));
    // Comments, which cost nothing.
    let (said, comment) = (AtomicU64::new(0), format!(": {}\n\n", "x".repeat(60_000)));
    let talk = async {
        while script.say.as_ref().unwrap().send(Ok(Bytes::from(comment.clone()))).await.is_ok() {
            said.fetch_add(comment.len() as u64, Ordering::SeqCst);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), talk).await.expect("the gateway gives it up");
    // What buffers and windows hold between here and there, and not what a service can say in two seconds.
    let said = said.into_inner();
    assert!(said < 32 << 20, "{said}");
    script.is_dropped().await;
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8);
    drop(answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_metered_is_in_the_record_while_a_stream_runs() {
    let script = Script::events();
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let (mut answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(said("123456789")));
    answer.hear(&said("123456789")).await;
    let metered = || match world.stack.gateway().set().find(key.epoch, &key.nullifier).unwrap().unwrap().state {
        RecordState::Open { metered, .. } => metered.micro(),
        other => panic!("{other:?}"),
    };
    // Without another chunk: a crash costs the gateway no more than a second's worth.
    until(|| metered() == ASKING_COST + 8 * 3).await;
    script.say(said("123")).await;
    answer.hear(&said("123")).await;
    until(|| metered() == ASKING_COST + 8 * 4).await;
    drop(answer);
    assert_eq!(settled(&world, &mut caller, &key).await, ASKING_COST + 8 * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_stream_and_short_ones_arrive_whole() {
    // Without a length, and of no kind that is a stream.
    let mut script = Script::new("application/json");
    let world = script.world().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    let usage = r#"{"usage":{"prompt_tokens":20,"completion_tokens":30},"#;
    let (answer, ()) = tokio::join!(ask_plainly(&world, &opening), script.say(usage));
    script.say("\"x\":1}").await;
    script.end();
    assert_eq!(answer.rest().await.unwrap().0, format!("{usage}\"x\":1}}"));
    assert_eq!(settled(&world, &mut caller, &key).await, 280);

    let mut script = Script::new("application/json");
    let world = script.world().await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let asking = tokio::spawn({
        let (world, opening) = (world.clone(), opening.clone());
        async move { world.ask(&opening).await }
    });
    script.say(usage).await;
    script.say("\"x\":1}").await;
    script.end();
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, world.charged()), (200, 280));
    answer.settlement();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_above_the_limit_of_whole_ones_is_passed_on() {
    let body = format!(r#"{{"x":"{}","usage":{{"prompt_tokens":20,"completion_tokens":30}}}}"#, "x".repeat(100_000));
    let answer = body.clone();
    let service = Router::new().fallback(move || async move { answer });
    let limits = GatewayLimits::default().with_max_whole(50_000);
    let world = World::selling_with(service, StackOptions { limits, ..StackOptions::default() }).await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay_to_ask(&world, ASKING);
    assert!(ask_plainly(&world, &opening).await.rest().await.unwrap().0 == body);
    assert_eq!(settled(&world, &mut caller, &key).await, 280);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_broken_before_any_byte_is_a_bad_gateway_and_free() {
    let mut script = Script::new("application/octet-stream");
    let pricing = Some(Box::new(BytePricing::new().answer(OUTPUT_TOKEN)) as _);
    let world = script.world_with(StackOptions { pricing, ..StackOptions::default() }).await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let asking = tokio::spawn({
        let (world, opening) = (world.clone(), opening.clone());
        async move { world.ask(&opening).await }
    });
    script.say("some bytes").await;
    script.break_off().await;
    let answer = asking.await.unwrap();
    assert_eq!((answer.status, answer.settlement().refund), (502, CLASS));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_payer_takes_a_stream_and_fetches_its_settlement() {
    let mut script = Script::events();
    let world = script.world().await;
    let parts = PayerParts::new(world.gateway(), Policy::agent(CLASS, 1), Client::plain().unwrap());
    let payer = Payer::start(world.caller().wallet, parts).await.unwrap();
    let call = payer.call(Method::POST, TARGET, HeaderMap::new(), Bytes::from_static(ASKING.as_bytes()));
    let talk = async {
        script.say(said("one")).await;
        script.say(USAGE).await;
        script.say(DONE).await;
        script.end();
    };
    let (paid, ()) = tokio::join!(call, talk);
    let paid = paid.unwrap();
    assert_eq!((paid.body, paid.accepted.cost.micro()), (format!("{}{DONE}", said("one")).into(), 280));
}
