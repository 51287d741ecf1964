//! The caller's end of a call.

use axum::response::Response;
use tokio::sync::oneshot;

use crate::http::problem::ProblemDetails;

/// Whatever waits for the answer. The work goes on when it does not wait any more.
pub(super) struct Reply(Option<oneshot::Sender<Result<Response, ProblemDetails>>>);

impl Reply {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<Response, ProblemDetails>>) {
        let (send, receive) = oneshot::channel();
        (Self(Some(send)), receive)
    }

    /// Answers, if that was not done yet.
    pub(super) fn send(&mut self, answer: Result<Response, ProblemDetails>) {
        if let Some(send) = self.0.take() {
            // A body that is not taken is seen to be dropped.
            let _ = send.send(answer);
        }
    }
}
