//! The demo as a whole, in process.

use halometer::http::payment::MAX_HEADER_LINE;
use halometer::testing::stack::UpstreamOptions;
use indicatif::ProgressStyle;
use tokio::sync::watch;

use super::error::DemoError;
use super::run::{Options, Progress, run};
use super::{TEMPLATE, service_root};
use crate::prompts::Prompts;

/// Shows nothing.
struct Silent;

impl Progress for Silent {
    fn say(&self, _: &str) {}
    fn begin(&self, _: &'static str, _: usize) {}
    fn step(&self, _: usize) {}
}

fn options(calls: usize) -> Options {
    let prompts = ["Why is the sky dark at night?", "Was war die Hanse?"].map(str::to_owned).to_vec();
    Options {
        calls,
        prompts: Prompts::from_lines("a test", prompts).unwrap(),
        upstream: None,
        model: "m".to_owned(),
        max_tokens: 100,
        keep: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_reconciles() {
    let (_stop, stopped) = watch::channel(false);
    let report = run(options(11), &Silent, stopped).await.unwrap();
    assert!(report.ok, "{report}");
    assert_eq!((report.calls, report.answered, report.times.call.count), (11, 11, 11));
    assert!(report.times.prove.count >= 11 && report.times.verify.count >= 11);
    assert!(report.bytes.header_line <= MAX_HEADER_LINE);
    assert_eq!(report.money.minted, report.money.balance + report.money.cost);
    assert!(report.money.cost > 0 && report.money.refund > 0);
    let json: serde_json::Value = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["double_spend"]["named_payment"], json["double_spend"]["cheaters_payment"]);
    for word in ["prove", "authorise", "verify", "refund", "double-spend", "already-spent", "Every figure reconciles."]
    {
        assert!(report.to_string().contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_fails_the_demo_and_costs_nothing() {
    let (_stop, stopped) = watch::channel(false);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let upstream = Some(UpstreamOptions { url: format!("http://127.0.0.1:{port}"), api_key: None });
    let report = run(Options { upstream, ..options(2) }, &Silent, stopped).await.unwrap();
    assert!(!report.ok && report.answered == 0, "{report}");
    assert!(report.failures[0].contains("cannot be reached"), "{:?}", report.failures);
    // The failure is the service's: the money is all there, and both attacks fail as ever.
    assert_eq!((report.money.cost, report.money.balance), (0, report.money.minted));
    assert!(report.checks.iter().all(|check| check.ok) && report.replay.ok && report.double_spend.ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_ends() {
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(async move { run(options(10_000), &Silent, stopped).await });
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    stop.send(true).unwrap();
    assert!(matches!(running.await.unwrap(), Err(DemoError::Interrupted)));
}

#[test]
fn the_template_of_the_bar_is_one() {
    assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
}

#[test]
fn urls_with_and_without_the_version() {
    for url in ["https://a.example/v1", "https://a.example/v1/", "https://a.example", "https://a.example/"] {
        assert_eq!(service_root(url), "https://a.example");
    }
}
