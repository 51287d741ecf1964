//! Calls of a session: many against one charge, each decided by itself.

use std::time::Duration;

use halometer::http::beside::CALL_HEADER;
use halometer::http::clock::now;
use halometer::http::payment::{Payload, RECEIPT_HEADER};
use halometer::http::wire::{CLOSE_PATH, SESSION_PATH};
use halometer::protocol::*;
use halometer::wallet::{LaneId, SessionSigner};

use crate::world::*;

/// A session that is open.
struct Session {
    world: World,
    key: SpendKey,
    signer: SessionSigner,
}

impl Session {
    async fn open(options: Options) -> Self {
        let world = World::new(options).await;
        let mut caller = world.caller();
        let request = Request::new(&world.host, "POST", SESSION_PATH, ContentDigest::of(b"")).unwrap();
        let job = caller.wallet.plan(LaneId { payment: 0, lane: 0 }, &world.gateway.id(), CLASS, now()).unwrap();
        let proving = caller.keys.of(&job.epoch_key());
        let ready = job.prove(&proving, &mut rand::rng()).unwrap();
        let paid = caller.wallet.authorise(ready, &request, now()).unwrap();
        let signer = caller.wallet.session(&paid.key).unwrap();
        let opened = world.post_own(SESSION_PATH, None, paid.opening).await;
        assert_eq!(opened.status(), 200, "{opened:?}");
        Self { world, key: paid.key, signer }
    }

    /// A credential for a call.
    fn call(&self, target: &str) -> String {
        let request = Request::new(&self.world.host, "POST", target, ContentDigest::of(b"")).unwrap();
        self.world.credential(Payload::Following(self.signer.call(&request)))
    }

    async fn check(&self, target: &str, credential: &str) -> reqwest::Response {
        self.world.check(target, &[("authorization", credential)]).await
    }

    async fn close(&self) {
        let request = Request::new(&self.world.host, "POST", CLOSE_PATH, ContentDigest::of(b"")).unwrap();
        let credential = self.world.credential(Payload::Following(self.signer.close(&request)));
        let closed = self.world.post_own(CLOSE_PATH, Some(&credential), Vec::new()).await;
        assert_eq!(closed.status(), 200, "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_calls_pass_once_each_and_settle_together() {
    let session = Session::open(Options::default()).await;
    let credential = session.call("/fixed/a");
    // For another path; then for its own, once.
    assert_eq!(session.check("/fixed/b", &credential).await.status(), 401);
    let answer = session.check("/fixed/a", &credential).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert!(answer.headers().contains_key(RECEIPT_HEADER) && !answer.headers().contains_key(CALL_HEADER));
    assert_ne!(session.check("/fixed/a", &credential).await.status(), 200);
    // A held one keeps all that is left: nothing less is sure to be enough.
    let answer = session.check("/told", &session.call("/told")).await;
    let call = answer.headers()[CALL_HEADER].to_str().unwrap().to_owned();
    let refused = session.check("/fixed/a", &session.call("/fixed/a")).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["halometer-status"]), (401, &"402".parse().unwrap()));
    assert_eq!(session.world.report(&call_report(&call, 12)).await.status(), 200);
    assert_eq!(session.world.report(&call_report(&call, 13)).await.status(), 409);
    assert_eq!(session.check("/fixed/a", &session.call("/fixed/a")).await.status(), 200);
    assert_eq!(session.world.cost(&session.key), None);
    session.close().await;
    assert_eq!(session.world.cost(&session.key), Some(12 + 2 * FIXED));
    assert_ne!(session.check("/fixed/a", &session.call("/fixed/a")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_holds_without_a_report_is_settled_with_it() {
    let session = Session::open(Options { hold: Duration::from_secs(2), ..Options::default() }).await;
    let answer = session.check("/told", &session.call("/told")).await;
    assert_eq!(answer.status(), 200);
    // Its end waits for the call, and that for its report.
    session.close().await;
    assert_eq!(session.world.cost(&session.key), Some(UNREPORTED));
}
