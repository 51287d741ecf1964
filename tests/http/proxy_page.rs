//! The proxy's page, and a gateway that is away.

use std::time::Duration;

use halometer::http::payer::{Client, Payer, PayerParts};
use halometer::http::proxy::{HEALTH_PATH, KeyRule, Keys, LocalKey, PAGE_PATH, Proxy, ProxyOptions, STATUS_PATH};
use halometer::http::server::Listener;
use halometer::testing::stack::StackOptions;
use halometer::wallet::Budget;
use http::{Method, StatusCode};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use crate::payer_hostile::impatient;
use crate::proxy::{Proxied, read};
use crate::world::{PAID, QUESTION, TARGET, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_wallet_and_is_never_paid_for() {
    let world = World::new().await;
    let key = LocalKey::generate(&mut UnwrapErr(SysRng));
    let rule = KeyRule::new(key.hash(), Budget::new("an-agent"));
    let options = ProxyOptions::default().with_keys(Keys::new(vec![rule]).unwrap());
    let proxied = Proxied::with(&world, impatient(&world), options).await;
    let target = format!("{TARGET}?%3Cscript%3E&<b>");
    let refused = proxied.request(Method::POST, &target).bearer_auth(key.as_str()).body(QUESTION).send().await.unwrap();
    assert!(refused.status().is_client_error() || refused.status().is_success());
    for _ in 0..2 {
        let asked = proxied.question().bearer_auth(key.as_str()).send().await.unwrap();
        assert_eq!(asked.status(), 200);
        asked.bytes().await.unwrap();
    }
    let (charged, held) = (world.charged(), world.held());
    let answer = proxied.request(Method::GET, PAGE_PATH).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(
        (header("cross-origin-resource-policy").as_str(), header("cache-control").as_str()),
        ("same-origin", "no-store")
    );
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    let page = answer.text().await.unwrap();
    let grouped = |sum: u64| format!("{}\u{202f}{:03}", sum / 1_000, sum % 1_000);
    for text in
        ["an-agent", "pays for calls", &grouped(PAID - charged), "POST /v1/chat/completions", "epoch", "gateway"]
    {
        assert!(page.contains(text), "{text}: {page}");
    }
    for loader in ["<script", "<b>&", " style=", "<form", key.as_str()] {
        assert!(!page.contains(loader), "{loader}");
    }
    assert!(!page.contains("{body}") && !page.contains("{taken}"));
    let icon = proxied.request(Method::GET, "/favicon.ico").send().await.unwrap();
    assert_eq!((icon.status(), icon.bytes().await.unwrap().len()), (StatusCode::NO_CONTENT, 0));
    let head = proxied.request(Method::HEAD, "/?any").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    for (method, path) in [(Method::POST, PAGE_PATH), (Method::PUT, "/favicon.ico"), (Method::OPTIONS, PAGE_PATH)] {
        assert_eq!(proxied.request(method, path).send().await.unwrap().status(), 405, "{path}");
    }
    assert_eq!((world.charged(), world.held()), (charged, held));
}

/// A page elsewhere can give its own name this address, whatever names are allowed for calls.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_elsewhere_can_look_at_the_page() {
    let world = World::new().await;
    let options = ProxyOptions::default().with_any_host(true);
    let proxied = Proxied::with(&world, impatient(&world), options).await;
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example:8402"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for path in [PAGE_PATH, "/favicon.ico"] {
            let answer = proxied.request(Method::GET, path).header(name, value).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}: {value}");
            let text = answer.text().await.unwrap();
            assert!(!text.contains(&PAID.to_string()) && text.contains("not_from_here"), "{text}");
        }
    }
}

/// An address that nobody answers at yet.
fn address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_begins_while_the_gateway_is_away_and_resumes() {
    let at = address();
    let origin = format!("http://{at}");
    let adjust = move |parts: &mut halometer::protocol::DirectoryParts| {
        parts.gateways[0].origins.insert(0, origin);
    };
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let wallet = world.caller().wallet;
    let parts = PayerParts::new(world.gateway(), impatient(&world).policy, Client::plain().unwrap());
    assert!(Payer::start(world.caller().wallet, parts.clone()).await.is_err(), "unless somebody waits for it");
    let payer = Payer::start_waiting(wallet, parts).await.unwrap();
    let proxy = Proxy::new(payer.clone(), ProxyOptions::default()).unwrap();
    let server = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap().serve(proxy.router());
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let ask = |target: &str| {
        client.post(format!("{}{target}", server.url())).header("content-type", "application/json").body(QUESTION)
    };
    for (target, openai) in [(TARGET, true), ("/v1/messages", false)] {
        let answer = ask(target).send().await.unwrap();
        assert_eq!(
            (answer.status(), answer.headers()["x-should-retry"].to_str().unwrap()),
            (StatusCode::BAD_GATEWAY, "true")
        );
        let (_, body) = read(answer).await;
        assert_eq!(
            (&body["error"]["code"], &body["error"]["credit"]),
            (&"gateway_unreachable".into(), &"untouched".into())
        );
        assert_eq!(body["type"] == "error", !openai, "{body}");
    }
    let get = async |path: &str| client.get(format!("{}{path}", server.url())).send().await.unwrap();
    assert_eq!(get(HEALTH_PATH).await.status(), StatusCode::OK);
    let page = get(PAGE_PATH).await.text().await.unwrap();
    assert!(page.contains("the gateway cannot be reached") && page.contains("cannot pay for calls now"), "{page}");
    let (_, status) = read(get(STATUS_PATH).await).await;
    assert_eq!((&status["gateway"]["reachable"], &status["lanes"]["in_flight"]), (&false.into(), &0.into()));

    // It comes up.
    let target = world.stack.gateway_url();
    let passing = tokio::spawn(async move {
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            let there = target.trim_start_matches("http://").to_owned();
            tokio::spawn(async move {
                let mut there = tokio::net::TcpStream::connect(there).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    let mut served = false;
    for _ in 0..200 {
        let answer = ask(TARGET).send().await.unwrap();
        if answer.status() == StatusCode::OK {
            served = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(served, "{:?}", payer.away());
    assert!(get(PAGE_PATH).await.text().await.unwrap().contains("pays for calls"));

    // It goes again. What was sent is pursued; nothing more is pinned for it.
    passing.abort();
    let _ = passing.await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        let (_, body) = read(ask(TARGET).send().await.unwrap()).await;
        codes.push(body["error"]["code"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(codes.last().map(String::as_str), Some("gateway_unreachable"), "{codes:?}");
    let status = payer.status().await.unwrap();
    assert!(status.in_flight <= 2, "{status:?}");
    payer.shutdown().await;
}
