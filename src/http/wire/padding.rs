//! Padding to a few sizes, of what a wallet asks beside calls.
//!
//! TLS hides what is written and not how much. A wallet pads its requests to the gateway's and the issuer's own paths with a header
//! of no meaning; where it did, the answer is padded behind its end, and says how long it is without. Calls are not padded: they are
//! the service's, and pass as they are.

#[cfg(feature = "client")]
use bytes::Bytes;
#[cfg(feature = "client")]
use http::{HeaderMap, HeaderValue, Method, Uri};

#[cfg(feature = "client")]
use crate::protocol::DecodeError;

/// The header of a request that pads it. Its value means nothing; that it is there asks for a padded answer.
pub const PADDING_HEADER: &str = "halometer-padding";
/// The header of a padded answer: how many bytes of its body are not padding.
pub const LENGTH_HEADER: &str = "halometer-length";

/// Sizes of requests over HTTP/1.1, head and body, bytes: questions, mints and settlements; spends; transfers.
pub const REQUEST_SIZES: [usize; 3] = [2_048, 6_144, 12_288];
/// Sizes of answers, bytes: of the body and the name of its type. Longer ones have a multiple of the last.
pub const ANSWER_SIZES: [usize; 6] = [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20];

/// The size that an answer of this length is padded to.
pub(crate) fn answer_size(length: usize) -> usize {
    let [.., largest] = ANSWER_SIZES;
    let small = ANSWER_SIZES.into_iter().find(|size| *size >= length);
    small.unwrap_or_else(|| length.checked_next_multiple_of(largest).unwrap_or(length))
}

/// Pads a request as HTTP/1.1 writes it. What is longer than the largest size stays as it is, but asks for a padded answer.
#[cfg(feature = "client")]
pub(crate) fn pad_request(method: &Method, uri: &Uri, headers: &mut HeaderMap, body: usize) {
    let line = |name: &str, value: usize| name.len() + ": ".len() + value + "\r\n".len();
    let target = uri.path_and_query().map_or(1, |target| target.as_str().len());
    let mut length = method.as_str().len() + " ".len() + target + " HTTP/1.1\r\n".len() + "\r\n".len() + body;
    length += line("host", uri.authority().map_or(0, |authority| authority.as_str().len()));
    length += headers.iter().map(|(name, value)| line(name.as_str(), value.len())).sum::<usize>();
    if *method != Method::GET {
        length += line("content-length", body.to_string().len());
    }
    length += line(PADDING_HEADER, 0);
    let size = REQUEST_SIZES.into_iter().find(|size| *size >= length);
    let padding = "0".repeat(size.map_or(0, |size| size - length));
    if let Ok(value) = HeaderValue::try_from(padding) {
        headers.insert(PADDING_HEADER, value);
    }
}

/// The body of an answer without its padding. One that is not padded is as it is.
#[cfg(feature = "client")]
pub(crate) fn unpad(headers: &HeaderMap, body: Bytes) -> Result<Bytes, DecodeError> {
    let Some(said) = headers.get(LENGTH_HEADER) else { return Ok(body) };
    let digits = said.to_str().ok().filter(|said| said.len() <= 12 && said.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse::<usize>().ok()).filter(|length| *length <= body.len());
    length.map(|length| body.slice(..length)).ok_or(DecodeError::Field("length of a padded answer"))
}

#[cfg(feature = "server")]
pub(crate) use answering::pad_answer;

#[cfg(feature = "server")]
mod answering {
    use core::pin::Pin;
    use core::task::{Context, Poll};

    use axum::body::Body;
    use axum::extract::Request;
    use axum::middleware::Next;
    use axum::response::Response;
    use bytes::Bytes;
    use http::{HeaderValue, Method, header};
    use hyper::body::{Body as _, Frame, SizeHint};

    use super::{LENGTH_HEADER, PADDING_HEADER, answer_size};

    /// Pads the answer, if the request is padded and the length of the answer is known when it begins.
    pub(crate) async fn pad_answer(request: Request, next: Next) -> Response {
        let asked = request.headers().contains_key(PADDING_HEADER) && *request.method() != Method::HEAD;
        let mut answer = next.run(request).await;
        let known = answer.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let Some(length) = known.filter(|_| asked) else { return answer };
        let kind = answer.headers().get(header::CONTENT_TYPE).map_or(0, HeaderValue::len);
        let Some(whole) = length.checked_add(kind) else { return answer };
        let mut padding = vec![0; answer_size(whole) - whole];
        // Not zeros: a proxy that compresses would take them out again.
        rand::fill(&mut padding[..]);
        answer.headers_mut().remove(header::CONTENT_LENGTH);
        // So many digits for every length, or its length would tell of it.
        if let Ok(value) = HeaderValue::try_from(format!("{length:010}")) {
            answer.headers_mut().insert(LENGTH_HEADER, value);
        }
        answer.map(|body| Body::new(Padded { body, padding: Some(padding.into()) }))
    }

    /// A body, and padding behind it.
    struct Padded {
        body: Body,
        padding: Option<Bytes>,
    }

    impl hyper::body::Body for Padded {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(None) => {
                    let padding = self.padding.take().filter(|padding| !padding.is_empty());
                    Poll::Ready(padding.map(|padding| Ok(Frame::data(padding))))
                }
                // What breaks off is not padded.
                Poll::Ready(Some(Err(error))) => {
                    self.padding = None;
                    Poll::Ready(Some(Err(error)))
                }
                polled => polled,
            }
        }

        fn is_end_stream(&self) -> bool {
            self.body.is_end_stream() && self.padding.as_ref().is_none_or(Bytes::is_empty)
        }

        fn size_hint(&self) -> SizeHint {
            let padding = self.padding.as_ref().map_or(0, |padding| padding.len() as u64);
            match self.body.size_hint().exact() {
                Some(length) => SizeHint::with_exact(length + padding),
                None => SizeHint::default(),
            }
        }
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_kind_have_one_size() {
        let size = |method: Method, path: &str, body: usize| {
            let uri: Uri = format!("http://gateway.example{path}").parse().unwrap();
            let mut headers = HeaderMap::new();
            pad_request(&method, &uri, &mut headers, body);
            let padding = headers[PADDING_HEADER].len();
            let head = format!("{method} {path} HTTP/1.1\r\nhost: gateway.example\r\n{PADDING_HEADER}: \r\n\r\n");
            let length = if method == Method::GET { 0 } else { format!("content-length: {body}\r\n").len() };
            head.len() + length + padding + body
        };
        for (path, body) in [("/", 0), ("/.well-known/halometer/spent/7/12/4095", 0), ("/x", 0)] {
            assert_eq!(size(Method::GET, path, body), 2_048);
        }
        for (body, expected) in [(0, 2_048), (700, 2_048), (2_000, 6_144), (4_182, 6_144), (8_500, 12_288)] {
            assert_eq!(size(Method::POST, "/.well-known/halometer/mint", body), expected, "{body}");
        }
        assert!(size(Method::POST, "/", 20_000) > 20_000);
    }

    #[test]
    fn answers_have_few_sizes() {
        for (length, size) in [(0, 1_024), (1_024, 1_024), (1_025, 4_096), (70_000, 262_144), (1 << 20, 1 << 20)] {
            assert_eq!(answer_size(length), size);
        }
        assert_eq!(answer_size((1 << 20) + 1), 2 << 20);
        assert_eq!(answer_size(usize::MAX), usize::MAX);
    }

    #[test]
    fn what_is_said_of_the_length_is_checked() {
        let said = |said: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LENGTH_HEADER, HeaderValue::try_from(said).unwrap());
            unpad(&headers, Bytes::from_static(b"four..")).ok()
        };
        assert_eq!(said("0000000004").unwrap(), "four");
        assert_eq!(said("6").unwrap(), "four..");
        for wrong in ["7", "", "-1", "+4", "4 ", "99999999999999999999"] {
            assert!(said(wrong).is_none(), "{wrong}");
        }
        assert_eq!(unpad(&HeaderMap::new(), Bytes::from_static(b"as it is")).unwrap(), "as it is");
    }
}
