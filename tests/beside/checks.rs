//! What a proxy asks, and the answer for each refusal.

use std::time::Duration;

use halometer::http::beside::{CALL_HEADER, SECRET_HEADER};
use halometer::http::payment::{PaymentChallenge, RECEIPT_HEADER};
use halometer::http::problem::ProblemDetails;
use halometer::protocol::Problem;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_told_by_status_and_headers() {
    let world = World::new(Options::default()).await;
    let mut caller = world.caller();
    let said = |answer: &reqwest::Response| {
        let headers = answer.headers();
        let problem: Option<ProblemDetails> =
            headers.get("halometer-problem").map(|value| serde_json::from_slice(value.as_bytes()).unwrap());
        let meant = headers.get("halometer-status").map(|value| value.to_str().unwrap().parse::<u16>().unwrap());
        let challenge = headers.get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), meant, problem.and_then(|problem| problem.kind()), challenge)
    };
    let challenge = PaymentChallenge::of(world.gateway.directory(), &world.gateway.id()).to_header_value();
    let unpaid = world.check("/told", &[]).await;
    assert_eq!(said(&unpaid), (401, Some(402), Some(Problem::Unpaid), Some(challenge.clone())));
    let (key, credential) = world.pay(&mut caller, 0, "/fixed/a", b"");
    let authorization = ("authorization", credential.as_str());
    // Another path, another body, another host than the one that was signed.
    for (target, more, problem) in [
        ("/fixed/b", &[][..], Problem::SessionSignatureInvalid),
        ("/fixed/a?x", &[], Problem::SessionSignatureInvalid),
        ("/fixed/a", &[("x-original-content-length", "3")], Problem::Malformed),
        (
            "/fixed/a",
            &[("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:")],
            Problem::SessionSignatureInvalid,
        ),
        ("/fixed/a", &[("content-digest", "sha-256=x")], Problem::Malformed),
    ] {
        let answer = world.check(target, &[&[authorization][..], more].concat()).await;
        assert_eq!(said(&answer), (401, Some(402), Some(problem), Some(challenge.clone())), "{target} {more:?}");
    }
    let (status, meant, kind, none) = said(&world.check("/absent", &[authorization]).await);
    assert_eq!((status, meant, kind, none), (403, Some(404), None, None));
    for odd in ["told", "*", "http://evil.example/fixed/a", "/fixed/a#x", ""] {
        let (status, meant, ..) = said(&world.check(odd, &[authorization]).await);
        assert_eq!((status, meant), (403, Some(400)), "{odd}");
    }
    let own = world.check("/.well-known/halometer/directory", &[]).await;
    assert_eq!(said(&own).1, Some(404));
    assert!(world.cost(&key).is_none());
    // None of that touched it.
    let answer = world.check("/fixed/a", &[authorization]).await;
    assert_eq!((answer.status().as_u16(), world.cost(&key)), (200, Some(FIXED)));
    assert!(answer.headers().contains_key(RECEIPT_HEADER) && !answer.headers().contains_key(CALL_HEADER));
    // Once.
    assert_eq!(
        said(&world.check("/fixed/a", &[authorization]).await),
        (403, Some(409), Some(Problem::AlreadySpent), None)
    );
    let free = world.check("/health", &[("x-original-method", "GET")]).await;
    assert_eq!(said(&free).0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_is_let_through_by_method_and_path() {
    let world = World::new(Options::default()).await;
    let ask = async |method: &str, uri: &str| {
        let request =
            plain_client().get(format!("{}/check/forwarded", world.inner_url())).header(SECRET_HEADER, SECRET);
        let request = request.header("x-forwarded-method", method).header("x-forwarded-uri", uri);
        request.header("x-forwarded-host", &world.host).send().await.unwrap().status().as_u16()
    };
    for (method, uri, status) in [
        ("GET", "/health", 200),
        ("GET", "/health?x", 200),
        ("HEAD", "/health", 200),
        ("POST", "/health", 402),
        ("GET", "/health/", 402),
        ("GET", "/x/../health", 402),
        ("GET", "/%68ealth", 402),
        ("GET", "//health", 402),
    ] {
        assert_eq!(ask(method, uri).await, status, "{method} {uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_along_is_compared_whatever_its_header_says() {
    let world = World::new(Options::default()).await;
    let mut caller = world.caller();
    let ask = async |credential: &str, body: &'static str, digest: Option<&str>| {
        let request = plain_client().post(format!("{}/check/forwarded/body", world.inner_url()));
        let request = request.header(SECRET_HEADER, SECRET).header("authorization", credential);
        let request = request.header("x-forwarded-method", "POST").header("x-forwarded-uri", "/fixed/a");
        let request = request.header("x-forwarded-host", &world.host);
        let request = digest.iter().fold(request, |request, digest| request.header("content-digest", *digest));
        request.body(body).send().await.unwrap()
    };
    // SHA-256 of "question".
    let (key, credential) = world.pay(&mut caller, 0, "/fixed/a", b"{\"hello\": \"world\"}");
    let digest = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    for body in ["", "another"] {
        let refused = ask(&credential, body, Some(digest)).await;
        assert_eq!(refused.status(), 402);
        assert_eq!(problem(refused).await, Some(Problem::SessionSignatureInvalid));
    }
    assert_eq!(ask(&credential, "{\"hello\": \"world\"}", None).await.status(), 200);
    assert_eq!(world.cost(&key), Some(FIXED));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spend_for_another_host_is_not_taken() {
    let world = World::new(Options::default()).await;
    let (key, credential) = world.pay(&mut world.caller(), 0, "/fixed/a", b"");
    let request = plain_client().get(format!("{}/check/forwarded", world.inner_url())).header(SECRET_HEADER, SECRET);
    let request = request.header("x-forwarded-method", "POST").header("x-forwarded-uri", "/fixed/a");
    let request = request.header("x-forwarded-host", "other.example").header("authorization", credential);
    assert_eq!(problem(request.send().await.unwrap()).await, Some(Problem::WrongGateway));
    assert!(world.cost(&key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impatient_proxy_has_let_nothing_through() {
    let world = World::new(Options::default()).await;
    let (key, credential) = world.pay(&mut world.caller(), 0, "/told", b"");
    let request = plain_client().get(format!("{}/check/nginx", world.inner_url())).header(SECRET_HEADER, SECRET);
    let request = request.header("x-original-method", "POST").header("x-original-uri", "/told");
    let request = request.header("x-original-host", &world.host).header("authorization", credential);
    // Long enough to be read, too short to be verified.
    let _ = request.timeout(Duration::from_millis(3)).send().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // Either it was never read, or it is settled at nothing.
    assert!(world.cost(&key).is_none_or(|cost| cost == 0), "{:?}", world.cost(&key));
    assert!(world.gateway.set().totals(key.epoch).unwrap().open == 0);
}
