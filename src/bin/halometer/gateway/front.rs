//! Which party a request is for, where gateway and issuer share an address; and an issuer's routes that are exchanged.

use core::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use tower::{ServiceExt as _, service_fn};

use halometer::http::wire::{CLEARING_PATH, MINT_PATH, NOTICE_PATH};

/// The issuer's paths that are none of a gateway's.
const OF_ISSUER: [&str; 3] = [MINT_PATH, NOTICE_PATH, CLEARING_PATH];

/// Routes that are exchanged while they are served. A request that began under one ends under it.
#[derive(Clone)]
pub(super) struct Exchanged(Arc<RwLock<Router>>);

impl Exchanged {
    pub(super) fn new(router: Router) -> Self {
        Self(Arc::new(RwLock::new(router)))
    }

    pub(super) fn set(&self, router: Router) {
        // Nothing that can panic runs under the lock. What was there goes when the lock is free.
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), router);
        drop(before);
    }

    fn now(&self) -> Router {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn answer(self, request: Request) -> Result<Response, Infallible> {
        self.now().oneshot(request).await
    }

    /// As a service.
    pub(super) fn router(&self) -> Router {
        let exchanged = self.clone();
        Router::new().fallback_service(service_fn(move |request| exchanged.clone().answer(request)))
    }
}

/// The gateway, and the issuer's paths beside it.
pub(super) fn both(gateway: Router, issuer: &Exchanged) -> Router {
    let issuer = issuer.clone();
    Router::new().fallback_service(service_fn(move |request: Request| {
        let (gateway, issuer) = (gateway.clone(), issuer.clone());
        async move {
            match OF_ISSUER.contains(&request.uri().path()) {
                true => issuer.answer(request).await,
                false => gateway.oneshot(request).await,
            }
        }
    }))
}
