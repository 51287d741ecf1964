//! The last spend of a lane, for a wallet that is being restored (protocol, section 7): its memo, which only the wallet reads, and, to
//! the one that reads it, its settlement.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{StatusCode, header};

use super::{Buckets, refusal};
use crate::http::problem::ProblemDetails;
use crate::http::requests::{read_body, sender};
use crate::protocol::{ChangeQuery, DecodeError, MemoQuery, Problem};
use crate::store::{Record, RecordState};

/// How long a question may take to arrive.
const ARRIVING: Duration = Duration::from_secs(10);

/// Tells the memo of a recorded spend. It is noise to everybody but the wallet that sealed it.
pub(super) async fn memo(State(inner): State<Arc<Buckets>>, request: Request) -> Response {
    let told = async {
        let (_, record) = inner.asked(request, MemoQuery::LENGTH, MemoQuery::from_bytes, |query| *query).await?;
        Ok::<_, ProblemDetails>(record.memo.as_bytes().to_vec())
    };
    answer(told.await)
}

/// Tells the settlement of a recorded spend, if the asker shows that it reads the memo. What a spend cost is nobody else's business.
pub(super) async fn change(State(inner): State<Arc<Buckets>>, request: Request) -> Response {
    let told = async {
        let (query, record) =
            inner.asked(request, ChangeQuery::LENGTH, ChangeQuery::from_bytes, |query| query.spend).await?;
        if !query.reads(&record.memo) {
            return Err(refusal(Problem::Malformed, StatusCode::FORBIDDEN, "the code is not that of the spend's memo"));
        }
        match record.state {
            RecordState::Settled(settlement) => Ok(settlement.to_bytes()),
            RecordState::Open { .. } => {
                Err(ProblemDetails::new(Problem::InProgress, "this very spend is being worked on"))
            }
        }
    };
    answer(told.await.map(|bytes| bytes.to_vec()))
}

fn answer(told: Result<Vec<u8>, ProblemDetails>) -> Response {
    match told {
        Ok(bytes) => {
            let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")];
            (headers, bytes).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

impl Buckets {
    /// Reads a question, and the record that it is about.
    async fn asked<Q>(
        self: &Arc<Self>,
        request: Request,
        length: usize,
        read: impl FnOnce(&[u8]) -> Result<Q, DecodeError>,
        about: impl FnOnce(&Q) -> MemoQuery,
    ) -> Result<(Q, Record), ProblemDetails> {
        let (parts, body) = request.into_parts();
        let _share = self.share(sender(&parts.extensions))?;
        let body: Bytes = read_body(body, length, ARRIVING).await?;
        let malformed = |error: DecodeError| refusal(Problem::Malformed, StatusCode::BAD_REQUEST, error.to_string());
        let query = read(&body).map_err(malformed)?;
        let MemoQuery { epoch, nullifier } = about(&query);
        self.epoch(&epoch.to_string())?;
        let record = self.ask(move |set| set.find(epoch, &nullifier)).await?;
        let unknown = || refusal(Problem::Malformed, StatusCode::NOT_FOUND, "no spend of this nullifier is recorded");
        Ok((query, record.ok_or_else(unknown)?))
    }
}
