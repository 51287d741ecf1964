//! Two callers over HTTP: what each sends is the same byte for byte, but for what must look random (protocol, section 8).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use halometer::http::payment::{Credential, Payload};
use halometer::protocol::*;
use halometer::testing::stack::StackOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::payer_hostile::{ask, impatient, started};
use crate::world::World;

/// What was sent over each connection, in the order in which they were opened.
type Tapped = Arc<Mutex<Vec<Vec<u8>>>>;

/// Passes connections on to the gateway, and keeps what callers send.
async fn tap(listener: TcpListener, gateway: String, tapped: Tapped) {
    loop {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(gateway.trim_start_matches("http://")).await.unwrap();
        let place = {
            let mut tapped = tapped.lock().unwrap();
            tapped.push(Vec::new());
            tapped.len() - 1
        };
        let tapped = Arc::clone(&tapped);
        tokio::spawn(async move {
            let (mut upward, mut downward) = ([0; 4096], [0; 4096]);
            loop {
                tokio::select! {
                    read = from.read(&mut upward) => match read {
                        Ok(count) if count > 0 => {
                            tapped.lock().unwrap()[place].extend_from_slice(&upward[..count]);
                            if to.write_all(&upward[..count]).await.is_err() { return; }
                        }
                        _ => return,
                    },
                    read = to.read(&mut downward) => match read {
                        Ok(count) if count > 0 => {
                            if from.write_all(&downward[..count]).await.is_err() { return; }
                        }
                        _ => return,
                    },
                }
            }
        });
    }
}

/// All that one caller sends: over all its connections, with its spends taken out.
fn sent(tapped: &Tapped) -> (Vec<String>, Vec<Spend>) {
    let mut spends = Vec::new();
    let streams = core::mem::take(&mut *tapped.lock().unwrap());
    let streams = streams.iter().map(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let lines = text.split_inclusive("\r\n").map(|line| {
            let Some(credential) = line.to_ascii_lowercase().find("payment ").map(|at| line[at..].trim_end()) else {
                return line.to_owned();
            };
            let read = Credential::from_header_values([credential.as_bytes()]).unwrap();
            let Payload::Opening(opening) = read.payload else { panic!("nothing but openings is sent here") };
            spends.push(Opening::from_bytes(&opening).unwrap().spend);
            // Its length and the challenge that it echoes are not random.
            format!("{} {:?} {}\r\n", line.split(' ').next().unwrap(), read.challenge, line.len())
        });
        lines.collect::<String>()
    });
    (streams.collect(), spends)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_callers_send_differs_in_nothing_but_random_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let adjust = move |parts: &mut DirectoryParts| parts.gateways[0].origins.insert(0, origin);
    let world = World::with(StackOptions { adjust: Some(Box::new(adjust)), ..StackOptions::default() }).await;
    let tapped = Tapped::default();
    tokio::spawn(tap(listener, world.stack.gateway_url(), Arc::clone(&tapped)));

    let mut all = Vec::new();
    for _ in 0..2 {
        // Nothing here is about time.
        let parts = impatient(&world).with_answer_timeout(Duration::from_secs(30));
        let payer = started(world.caller().wallet, parts).await;
        payer.wait_ready(2).await.unwrap();
        for _ in 0..3 {
            ask(&payer).await.unwrap();
        }
        payer.shutdown().await;
        all.push(sent(&tapped));
    }
    let [(first, first_spends), (second, second_spends)] = &all[..] else { panic!() };
    assert_eq!(first, second, "header for header, byte for byte, connection for connection");
    assert_eq!((first_spends.len(), second_spends.len()), (3, 3));
    for (a, b) in first_spends.iter().zip(second_spends) {
        let open = |spend: &Spend| (spend.purpose, spend.epoch, spend.gateway, spend.tariff, spend.charge);
        assert_eq!((open(a), a.not_after), (open(b), b.not_after));
    }
    let keys: std::collections::HashSet<_> =
        first_spends.iter().chain(second_spends).map(|spend| spend.session.to_bytes()).collect();
    assert_eq!(keys.len(), 6, "every spend has a key of its own");
}
