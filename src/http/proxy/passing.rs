//! An answer on its way back to the client.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::COST_HEADER;
use crate::http::kept::Kept;
use crate::http::payer::{ClientError, SessionBody, Streamed};
use crate::http::payment::{PaymentReceipt, RECEIPT_HEADER};
use crate::http::upstream::end_to_end;

pub(super) fn answer(streamed: Streamed, place: OwnedSemaphorePermit) -> Response {
    let Streamed { status, headers, body, settled, .. } = streamed;
    let mut headers = end_to_end(&headers);
    // The receipt is between gateway and wallet; a cookie would never be sent back.
    for name in [RECEIPT_HEADER, header::SET_COOKIE, COST_HEADER] {
        headers.remove(name);
    }
    if let Some(settled) = settled {
        headers.insert(COST_HEADER, HeaderValue::from(settled.accepted.cost.micro()));
    }
    // A request is under way until its body is over.
    let mut answer = Response::new(Body::new(Kept { body, _kept: place }));
    (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
    answer
}

/// The same within a session: `kept` is kept until the answer is over.
pub(super) fn session_answer(answer: http::Response<SessionBody>, kept: impl Send + Unpin + 'static) -> Response {
    let (mut head, body) = answer.into_parts();
    let receipt = head.headers.get(RECEIPT_HEADER).and_then(|value| value.to_str().ok());
    let cost = receipt.and_then(|receipt| PaymentReceipt::from_header_value(receipt).ok()).map(|receipt| receipt.cost);
    head.headers = end_to_end(&head.headers);
    for name in [RECEIPT_HEADER, header::SET_COOKIE, COST_HEADER] {
        head.headers.remove(name);
    }
    head.headers.extend(cost.map(|cost| (COST_HEADER, HeaderValue::from(cost))));
    Response::from_parts(head, Body::new(InSession { body, _kept: kept }))
}

/// An answer within a session, without its receipt.
struct InSession<T> {
    body: SessionBody,
    _kept: T,
}

impl<T: Send + Unpin + 'static> hyper::body::Body for InSession<T> {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_trailers() => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
