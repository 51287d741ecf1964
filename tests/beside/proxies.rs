//! Each proxy in front, with the same calls and the same attacks.

use std::time::Duration;

use axum::body::Bytes;
use halometer::http::beside::CALL_HEADER;
use halometer::http::payer::CallError;
use halometer::http::payment::{PaymentChallenge, PaymentReceipt, RECEIPT_HEADER};
use halometer::protocol::{Problem, Settlement};
use halometer::wallet::ReceiptVerdict;
use http::{HeaderMap, Method, header};

use crate::process::{Kind, Proxy};
use crate::world::*;
use halometer::http::clock::now;

/// What a proxy can do and another cannot: the table in `docs/beside.md`.
impl Kind {
    /// Whether what a call cost is reported by the proxy itself.
    fn reports(self) -> bool {
        self == Self::Envoy
    }

    /// Whether it shows halometer the body.
    fn brings_body(self) -> bool {
        matches!(self, Self::Envoy | Self::Traefik)
    }

    /// What callers get while halometer does not answer.
    fn closed(self) -> u16 {
        match self {
            Self::Nginx | Self::Traefik => 500,
            Self::Caddy => 502,
            Self::Envoy => 503,
        }
    }

    /// Whether the receipt of what is settled before the call gets into its answer.
    fn passes_receipt(self) -> bool {
        self != Self::Traefik
    }
}

/// A world behind a proxy, if there is one.
async fn behind(kind: Kind, options: Options) -> Option<(World, Proxy)> {
    kind.program()?;
    let world = World::new(Options { service_reports: !kind.reports(), ..options }).await;
    let proxy = kind.start(&world)?;
    Some((world, proxy))
}

async fn the_way_of_a_call(kind: Kind) {
    let Some((world, proxy)) = behind(kind, Options::default()).await else { return };

    // Unpaid: the challenge, and the service hears nothing.
    let challenge = PaymentChallenge::of(world.gateway.directory(), &world.gateway.id()).to_header_value();
    let answer = world.post("/told/12", None, b"x").await;
    let challenges: Vec<_> = answer.headers().get_all(header::WWW_AUTHENTICATE).iter().cloned().collect();
    assert_eq!((answer.status().as_u16(), challenges), (402, vec![challenge.parse().unwrap()]), "{}", proxy.log());
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(problem(answer).await, Some(Problem::Unpaid));
    let answer = world.post("/absent", Some(&world.pay(&mut world.caller(), 0, "/absent", b"").1), b"").await;
    assert_eq!(answer.status(), 404);
    assert!(world.seen().is_empty());

    // Paid, by a caller that knows nothing of the proxy: the cost is exact, and the receipt says so.
    let payer = world.payer().await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "text/plain"),
        ("cookie", "caller=1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-real-ip", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("halometer-call", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("halometer-secret", "wrong"),
        ("x-original-uri", "/health"),
        ("x-original-method", "GET"),
        ("x-forwarded-uri", "/health"),
        ("x-forwarded-method", "GET"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-external-address", "192.0.2.1"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    for (target, cost, reported) in
        [("/told/12", 12, true), ("/fixed/a?b=%2F", FIXED, false), ("/told/0", 0, true), ("/fixed/a", FIXED, false)]
    {
        let paid = payer.call(Method::POST, target, headers.clone(), Bytes::from_static(b"question")).await;
        let paid = paid.unwrap_or_else(|error| panic!("{target}: {error}: {}", proxy.log()));
        assert_eq!((paid.status.as_u16(), &paid.body[..]), (200, &b"here"[..]), "{target}");
        assert_eq!(paid.accepted.cost.micro(), cost, "{target}");
        assert!(!paid.headers.contains_key(header::SET_COOKIE), "{target}");
        assert!(!paid.headers.contains_key("halometer-cost"), "{target}");
        let receipts = paid.headers.get_all(RECEIPT_HEADER).iter().count();
        assert_eq!(receipts, usize::from(reported || kind.passes_receipt() || kind == Kind::Traefik), "{target}");
        if reported || kind.passes_receipt() {
            let fair = matches!(paid.receipt, ReceiptVerdict::Fair | ReceiptVerdict::Unexplained);
            assert!(fair, "{target}: {:?}", paid.receipt);
            let cache: Vec<_> = paid.headers.get_all(header::CACHE_CONTROL).iter().collect();
            assert!(reported || cache == ["private"], "{target}: {cache:?}");
        }
        let seen = world.seen().pop().unwrap();
        assert_eq!((seen.target.as_str(), &seen.body[..]), (target, &b"question"[..]));
        assert_eq!(seen.headers.contains_key(CALL_HEADER), reported, "{target}");
        for name in ["authorization", "cookie", "halometer-secret", "x-real-ip", "forwarded", "x-forwarded-for"] {
            assert!(!seen.headers.contains_key(name), "{target}: {name}: {:?}", seen.headers);
        }
        if kind == Kind::Envoy {
            // Envoy takes orders from its operator alone.
            assert!(!seen.headers.keys().any(|name| name.as_str().starts_with("x-envoy")), "{:?}", seen.headers);
        }
    }
    let seen = world.seen().len();
    assert_eq!(seen, 4);
}

/// What proxies, browsers and programs say of an address, a place, a device or a trace.
const TELLING: [&str; 44] = [
    "x-forwarded-for",
    "x-original-forwarded-for",
    "forwarded",
    "x-real-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-ipcity",
    "cf-ray",
    "cf-visitor",
    "fastly-client-ip",
    "x-azure-clientip",
    "x-envoy-external-address",
    "x-appengine-user-ip",
    "x-appengine-country",
    "fly-client-ip",
    "cloudfront-viewer-address",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "uber-trace-id",
    "x-request-id",
    "x-correlation-id",
    "x-device-id",
    "x-session-id",
    "sec-ch-ua",
    "sec-ch-ua-platform",
    "sec-ch-ua-model",
    "dnt",
    "sec-gpc",
    "save-data",
    "from",
    "referer",
    "origin",
    "cookie",
    "accept-language",
    "if-none-match",
];

/// A caller that sends forty headers is served, and the service learns none of them.
async fn forty_headers(kind: Kind) {
    let Some((world, proxy)) = behind(kind, Options::default()).await else { return };
    let payer = world.payer().await;
    let secret = "value-of-a-caller";
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/plain".parse().unwrap())]);
    for name in TELLING {
        headers.append(name, secret.parse().unwrap());
    }
    let paid = payer.call(Method::POST, "/fixed/a", headers, Bytes::from_static(b"question")).await;
    let paid = paid.unwrap_or_else(|error| panic!("{error}: {}", proxy.log()));
    assert_eq!((paid.status.as_u16(), &paid.body[..]), (200, &b"here"[..]));
    let seen = world.seen().pop().unwrap();
    assert_eq!(seen.headers[header::CONTENT_TYPE], "text/plain", "what says how the body is written is passed on");
    let told: Vec<_> = seen.headers.iter().filter(|(_, value)| value.as_bytes().ends_with(secret.as_bytes())).collect();
    assert!(told.is_empty(), "{told:?}");
}

async fn attacks(kind: Kind) {
    let hold = Duration::from_secs(10);
    let Some((world, proxy)) = behind(kind, Options { hold, ..Options::default() }).await else { return };
    let mut caller = world.caller();

    // What was signed for one request is not taken for another.
    let (key, credential) = world.pay(&mut caller, 0, "/told/12", b"question");
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    for (target, body, headers) in [
        ("/told/13", &b"question"[..], &[][..]),
        ("/told/12?x", b"question", &[]),
        ("/fixed/a", b"question", &[]),
        ("/fixed/a", b"question", &[("x-original-uri", "/told/12"), ("x-forwarded-uri", "/told/12")]),
        // The digest of another body.
        ("/told/12", b"question", &[("content-digest", digest)][..]),
        // Another body, without a digest.
        ("/told/12", b"another!", &[]),
    ] {
        if kind.brings_body() && (target, body) == ("/told/12", b"question") {
            // The body itself is compared.
            continue;
        }
        let refused = world.post_with(target, Some(&credential), body, headers).await;
        assert_eq!(refused.status(), 402, "{target} {headers:?}");
        let problem = problem(refused).await.unwrap();
        assert!(matches!(problem, Problem::SessionSignatureInvalid | Problem::Malformed), "{problem:?}");
    }
    assert!(world.seen().is_empty());
    assert!(world.gateway.set().find(key.epoch, &key.nullifier).unwrap().is_none());

    // Served once, from any sender.
    let own = halometer::protocol::ContentDigest::of(b"question").to_bytes();
    let own = format!("sha-256=:{}:", base64(&own));
    let answer = world.post_with("/told/12", Some(&credential), b"question", &[("content-digest", &own)]).await;
    assert_eq!(answer.status(), 200, "{}", proxy.log());
    assert_eq!(world.cost(&key), Some(12));
    let receipt = answer.headers()[RECEIPT_HEADER].to_str().unwrap();
    let settlement = PaymentReceipt::from_header_value(receipt).unwrap().settlement().unwrap();
    caller.wallet.accept(&key, &Settlement::from_bytes(&settlement).unwrap(), now()).unwrap();
    let again = world.post_with("/told/12", Some(&credential), b"question", &[("content-digest", &own)]).await;
    assert_eq!(again.status(), 409);
    let details = details(again).await;
    assert_eq!((details.kind(), details.settlement()), (Some(Problem::AlreadySpent), Some(settlement)));
    assert_eq!(world.seen().len(), 1);

    // A header line of 8 KiB gets through to be refused for what it is.
    let long = format!("Payment {}", "A".repeat(8 * 1024 - "authorization: payment \r\n".len()));
    let refused = world.post("/told/12", Some(&long), b"").await;
    assert_eq!((refused.status().as_u16(), problem(refused).await), (402, Some(Problem::Malformed)));
    // The inner paths are nobody else's.
    for path in ["/.well-known/halometer/report", "/check/nginx", "/halometer-check"] {
        let answer = world.post_with(path, None, b"{}", &[("halometer-secret", SECRET)]).await;
        assert!(matches!(answer.status().as_u16(), 402 | 404), "{path}: {answer:?}");
    }
    assert_eq!(world.seen().len(), 1);

    // The caller hangs up while the service works: if that stops it, it reports nothing, and the configured cost counts.
    let (key, credential) = world.pay(&mut caller, 1, "/slow/9", b"");
    let request = plain_client().post(format!("http://{}/slow/9", world.host)).header("authorization", credential);
    let hung_up = request.timeout(Duration::from_secs(1)).send().await;
    assert!(hung_up.is_err());
    until(|| world.cost(&key).is_some()).await;
    assert!(matches!(world.cost(&key), Some(9 | UNREPORTED)), "{:?}", world.cost(&key));
}

async fn closed_without_halometer(kind: Kind) {
    let Some((mut world, _proxy)) = behind(kind, Options::default()).await else { return };
    let mut caller = world.caller();
    let (_, credential) = world.pay(&mut caller, 0, "/told/12", b"");
    world.stop_halometer().await;
    for credential in [None, Some(credential.as_str())] {
        let answer = world.post("/told/12", credential, b"").await;
        assert_eq!(answer.status().as_u16(), kind.closed(), "{answer:?}");
    }
    assert!(world.seen().is_empty());
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A configuration that does without the named location for refusals.
#[tokio::test(flavor = "multi_thread")]
async fn payers_take_the_401_that_nginx_makes_of_a_402() {
    if Kind::Nginx.program().is_none() {
        return;
    }
    let world = World::new(Options::default()).await;
    let change = |text: String| text.replace("error_page 401 403 = @halometer_refused;", "");
    let _proxy = Kind::Nginx.start_with(&world, change).unwrap();
    let answer = world.post("/told/12", None, b"").await;
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().contains_key(header::WWW_AUTHENTICATE));
    let payer = world.payer().await;
    let call = async |target| payer.call(Method::POST, target, HeaderMap::new(), Bytes::from_static(b"question")).await;
    assert_eq!(call("/told/12").await.unwrap().accepted.cost.micro(), 12);
    // More than the class: refused, settled at nothing, and the settlement fetched.
    let dear = call("/dear").await.unwrap();
    assert_eq!((dear.status.as_u16(), dear.accepted.cost.micro()), (401, 0));
    // Not for sale: refused, and not admitted.
    let error = call("/absent").await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(_)), "{error:?}");
    assert_eq!(call("/told/13").await.unwrap().accepted.cost.micro(), 13);
}

/// A configuration that leaves bodies where they are.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_may_keep_bodies_to_itself() {
    if Kind::Envoy.program().is_none() {
        return;
    }
    let world = World::new(Options { service_reports: false, ..Options::default() }).await;
    let body_settings =
        ["with_request_body", "max_request_bytes", "allow_partial_message", "pack_as_bytes", "halometer-body"];
    let change = |text: String| {
        let kept = |line: &&str| !body_settings.iter().any(|setting| line.contains(setting));
        text.lines().filter(kept).collect::<Vec<_>>().join("\n")
    };
    let _proxy = Kind::Envoy.start_with(&world, change).unwrap();
    let payer = world.payer().await;
    for body in [&b""[..], b"question"] {
        let paid = payer.call(Method::POST, "/told/12", HeaderMap::new(), Bytes::from_static(body)).await.unwrap();
        assert_eq!((paid.status.as_u16(), paid.accepted.cost.micro()), (200, 12));
    }
    let (_, credential) = world.pay(&mut world.caller(), 0, "/told/12", b"question");
    let refused = world.post("/told/12", Some(&credential), b"question").await;
    assert_eq!(problem(refused).await, Some(Problem::Malformed));
}

macro_rules! with_each_proxy {
    ($($module:ident $kind:ident),*) => {$(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn serves_what_is_paid_for_and_nothing_else() {
                the_way_of_a_call(Kind::$kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn lets_no_spend_be_used_twice_or_for_another_request() {
                attacks(Kind::$kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn passes_forty_headers_of_a_caller_to_nobody() {
                forty_headers(Kind::$kind).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn is_closed_while_halometer_is_down() {
                closed_without_halometer(Kind::$kind).await;
            }
        }
    )*};
}

with_each_proxy!(nginx Nginx, caddy Caddy, traefik Traefik, envoy Envoy);
