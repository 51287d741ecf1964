//! What is on the wire.

use halometer::http::payment::{MAX_HEADER_LINE, PaymentReceipt};
use halometer::http::wire::DIRECTORY_PATH;
use halometer::protocol::*;

use crate::world::{QUESTION, TARGET, World, lane};

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_fits_one_header_line() {
    let world = World::new().await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let line = format!("Authorization: {}\r\n", world.opening(&opening));
    assert!(opening.len() <= 4_200 && line.len() <= MAX_HEADER_LINE, "{} {}", opening.len(), line.len());
}

/// Headers are logged. Of what names the spend, only the credential may be in one.
#[tokio::test(flavor = "multi_thread")]
async fn no_header_of_an_answer_names_the_spend() {
    let world = World::new().await;
    let mut caller = world.caller();
    let (key, opening) = caller.pay(&world, lane(0));
    let spend = Opening::from_bytes(&opening).unwrap().spend;
    let mut secrets = vec![key.nullifier.to_bytes(), key.context.to_bytes(), spend.share.to_bytes()];
    secrets.extend([spend.change.to_bytes(), spend.session.to_bytes()]);
    for answer in [world.ask(&opening).await, world.ask(&opening).await, world.fetch(&mut caller, &key).await] {
        let receipt =
            answer.header("payment-receipt").map(|receipt| PaymentReceipt::from_header_value(receipt).unwrap());
        let signed = receipt.as_ref().and_then(|receipt| receipt.signed().unwrap()).unwrap_or_default();
        for secret in &secrets {
            assert!(!signed.windows(32).any(|window| window == secret));
        }
        let inside = receipt.map(|receipt| format!("{receipt:?}")).unwrap_or_default();
        let headers = format!("{:?}{inside}", answer.headers);
        let everything = format!("{headers}{}", String::from_utf8_lossy(&answer.body));
        for secret in &secrets {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let base64 = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret);
            assert!(!everything.contains(&hex) && !everything.contains(&base64[..40]), "{everything}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_and_issuer_show_the_same_directory() {
    let world = World::new().await;
    let answer = world.send("GET", DIRECTORY_PATH, &world.host(), None, "").await;
    assert_eq!(answer.status, 200);
    let signed = SignedDirectory::from_bytes(&answer.body).unwrap();
    let directory = signed.verify(&world.stack.root_key()).unwrap();
    assert_eq!(directory.digest(), world.stack.issuer().directory().digest());
    let client = halometer::http::payer::Client::plain().unwrap();
    assert_eq!(client.directory(&world.stack.issuer_url()).await.unwrap(), signed);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_smuggling_shapes_are_refused() {
    let world = World::new().await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let (host, credential) = (world.host(), world.opening(&opening));
    for framing in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity, cow\r\n",
        "Content-Length: +4\r\n",
        "Content-Length : 4\r\n",
    ] {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n{framing}Connection: close\r\n\
             Authorization: {credential}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: {host}\r\n\r\n"
        );
        let answer = world.raw(request.as_bytes()).await;
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{framing}");
    }
    // A proxy in front may have looked at the other one.
    let two_hosts = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nHost: elsewhere\r\nContent-Length: 0\r\n\
         Connection: close\r\nAuthorization: {credential}\r\n\r\n"
    );
    assert_eq!(world.raw(two_hosts.as_bytes()).await.unwrap().problem(), Some(Problem::WrongGateway));
    let huge = format!("POST / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(world.raw(huge.as_bytes()).await.is_none_or(|answer| answer.status >= 400));
    assert_eq!((world.charged(), world.held()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_http_2() {
    let world = World::new().await;
    let (_, opening) = world.caller().pay(&world, lane(0));
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).http2_prior_knowledge().build().unwrap();
    let url = format!("{}{TARGET}", world.stack.gateway_url());
    let unpaid = client.post(&url).body(QUESTION).send().await.unwrap();
    assert_eq!((unpaid.version(), unpaid.status().as_u16()), (http::Version::HTTP_2, 402));
    let paid = client.post(&url).header("content-type", "application/json").body(QUESTION);
    let paid = paid.header("authorization", world.opening(&opening)).send().await.unwrap();
    assert_eq!((paid.version(), paid.status().as_u16()), (http::Version::HTTP_2, 200));
    assert!(paid.headers().contains_key("payment-receipt") && world.charged() > 0);
}
