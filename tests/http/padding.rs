//! What a wallet asks beside calls has few sizes, both ways.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use halometer::http::payer::Client;
use halometer::http::wire::{ANSWER_SIZES, LENGTH_HEADER, PADDING_HEADER, REQUEST_SIZES, SPENT_PATH};
use halometer::protocol::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{PAID, TARGET, World};

/// Passes connections on, and keeps what went which way.
async fn tap(to: String) -> (String, Arc<Mutex<Vec<[Vec<u8>; 2]>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<[Vec<u8>; 2]>>> = Arc::default();
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut server = TcpStream::connect(to.trim_start_matches("http://")).await.unwrap();
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let place = {
                    let mut kept = kept.lock().unwrap();
                    kept.push([Vec::new(), Vec::new()]);
                    kept.len() - 1
                };
                let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        Ok(read @ 1..) = from.read(&mut up) => {
                            kept.lock().unwrap()[place][0].extend_from_slice(&up[..read]);
                            server.write_all(&up[..read]).await.unwrap();
                        }
                        Ok(read @ 1..) = server.read(&mut down) => {
                            kept.lock().unwrap()[place][1].extend_from_slice(&down[..read]);
                            from.write_all(&down[..read]).await.unwrap();
                        }
                        else => return,
                    }
                }
            });
        }
    });
    (url, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_mints_and_spends_have_few_sizes() {
    let world = World::new().await;
    let (gateway, at_gateway) = tap(world.stack.gateway_url()).await;
    let (issuer, at_issuer) = tap(world.stack.issuer_url()).await;
    let client = Client::plain().unwrap();
    let mut caller = world.caller();
    let payment = world.stack.pay(Credits::from_micro(PAID)).unwrap();
    let request = caller
        .wallet
        .request_mint(payment, [Credits::from_micro(PAID / 8); LANES], halometer::http::clock::now())
        .unwrap();
    let epoch = world.stack.gateway().directory().parts().epochs[0].number;
    client.mint(&issuer, &request).await.unwrap();
    client.directory(&issuer).await.unwrap();
    client.directory(&gateway).await.unwrap();
    client.spent_count(&gateway, epoch).await.unwrap();
    client.spent_bucket(&gateway, epoch, Prefix::WHOLE).await.unwrap();
    client.cancel(&gateway, vec![7; Spend::LENGTH + 100]).await.unwrap_err();
    client.transfer(&gateway, vec![7; 2 * Spend::TRANSFER_LENGTH + 200]).await.unwrap_err();

    let all = [at_gateway.lock().unwrap().clone(), at_issuer.lock().unwrap().clone()].concat();
    assert_eq!(all.len(), 7);
    let mut sizes = BTreeSet::new();
    for [asked, answered] in &all {
        assert!(REQUEST_SIZES.contains(&asked.len()), "{}: {}", asked.len(), String::from_utf8_lossy(&asked[..80]));
        sizes.insert(asked.len());
        let text = String::from_utf8_lossy(answered).to_ascii_lowercase();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        let value = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
        };
        let whole = value("content-length").parse::<usize>().unwrap() + value("content-type").len();
        assert!(ANSWER_SIZES.contains(&whole), "{whole}: {head}");
        assert!(value(LENGTH_HEADER).len() == 10, "{head}");
    }
    assert_eq!(sizes.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_asks_for_no_padding_gets_none() {
    let world = World::new().await;
    let epoch = world.stack.gateway().directory().parts().epochs[0].number;
    let target = format!("{SPENT_PATH}/{epoch}");
    let (host, padded) = (world.host(), format!("{PADDING_HEADER}: 0\r\n"));
    for (method, header, expected) in [("GET", "", false), ("GET", &*padded, true), ("HEAD", &*padded, false)] {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n");
        let mut stream = TcpStream::connect(&host).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{method}: {text}");
        assert_eq!(text.contains(LENGTH_HEADER), expected, "{method}: {text}");
    }
    // A call is the service's, and passes as it is.
    let head = format!("GET {TARGET} HTTP/1.1\r\nHost: {host}\r\n{padded}Connection: close\r\n\r\n");
    let answer = world.raw(head.as_bytes()).await.unwrap();
    assert!(!answer.headers.contains_key(LENGTH_HEADER), "{:?}", answer.headers);
}
