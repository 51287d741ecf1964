//! The proxy's page in a real browser.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use halometer::testing::stack::StackOptions;
use serde_json::Value;

use super::gateway::browser;
use super::keys::{ask, new};
use super::proxy::{Proxy, skip};
use super::wallet::{Owner, start};

#[test]
fn the_page_fits_every_width_and_asks_for_nothing_else() {
    let Some(browser) = browser() else {
        skip("there is no chromium here");
        return;
    };
    let (owner, stack) = (Owner::new(), start(StackOptions::default()));
    owner.fund(&stack, "w", 1_600_000);
    let keys = owner.text("keys.toml");
    let agent = new(&owner, "a-very-long-name-of-an-agent.2", &["--per-day", "50000", "--total", "900000"]);
    new(&owner, "spare", &[]);
    let proxy = Proxy::start(&owner, "w", &["--keys", &keys]);
    for _ in 0..3 {
        assert_eq!(ask(&proxy, &agent).0, 200);
    }
    let url = proxy.url("page_url").to_owned();
    let look = |name: &str, target: &str, more: &[&str]| {
        let profile = format!("--user-data-dir={}", owner.text(name));
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync", &profile]);
        let command = command.args(more).arg(target).stdin(Stdio::null()).stderr(Stdio::null());
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    let net = owner.text("net.json");
    let dom = look("seen", &url, &["--dump-dom", &format!("--log-net-log={net}")]);
    for text in ["pays for calls", "a-very-long-name-of-an-agent.2", "POST /v1/chat/completions", "Where it pays"] {
        assert!(dom.contains(text), "{text}: {dom}");
    }
    let text = std::fs::read_to_string(&net).unwrap();
    let log: Value = serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(&format!("{}]}}", text.trim_end().trim_end_matches(','))))
        .unwrap();
    // The browser itself may ask any host; of this one the page is asked for, and nothing else.
    let own = url.trim_end_matches('/');
    let events = log["events"].as_array().unwrap().iter();
    let asked: BTreeSet<&str> =
        events.filter_map(|event| event["params"]["url"].as_str()).filter(|asked| asked.starts_with(own)).collect();
    assert_eq!(asked, BTreeSet::from([url.as_str()]));

    // In frames of these widths, which measure it: nothing sticks out.
    let frame = |width: u32| {
        let source = dom.replace('&', "&amp;").replace('"', "&quot;");
        format!("<iframe width=\"{width}\" height=\"900\" srcdoc=\"{source}\"></iframe>")
    };
    let frames: String = [400, 800, 1_400].map(frame).concat();
    let measure = "<script>onload = () => { document.body.textContent = [...document.querySelectorAll('iframe')].map(frame => { \
                   const page = frame.contentDocument.documentElement; return page.scrollWidth <= page.clientWidth ? 'fits' : \
                   page.scrollWidth; }).join(' '); }</script>";
    std::fs::write(owner.text("frames.html"), format!("<meta charset=\"utf-8\">{measure}<body>{frames}</body>"))
        .unwrap();
    let measured = look("measured", &format!("file://{}", owner.text("frames.html")), &["--dump-dom"]);
    assert!(measured.contains("fits fits fits"), "{measured:.2000}");

    // It is styled by the style in it, which its own policy allows, in two ways.
    let mut shots = Vec::new();
    for (name, scheme) in [("light", "1"), ("dark", "0")] {
        for width in ["500", "800", "1400"] {
            let shot = owner.text(&format!("{name}-{width}.png"));
            let settings = format!("--blink-settings=preferredColorScheme={scheme}");
            let (size, to) = (format!("--window-size={width},1600"), format!("--screenshot={shot}"));
            look(&format!("{name}-{width}"), &url, &[&settings, &size, &to, "--hide-scrollbars"]);
            shots.push(std::fs::read(shot).unwrap());
            // For people to look at.
            if let Some(place) = std::env::var_os("HALOMETER_SHOTS") {
                let to = std::path::Path::new(&place).join(format!("{name}-{width}.png"));
                std::fs::write(to, shots.last().unwrap()).unwrap();
            }
        }
    }
    assert!(shots.iter().all(|shot| shot.len() > 20_000));
    assert_ne!(shots[2], shots[5], "dark is not light");
    proxy.end();
}
