//! Gateways that share no set with their issuer: what they are made of, and how they reach it.
//!
//! [`PaymentLayer::start_remote`](super::layer::PaymentLayer::start_remote) and
//! [`GatewayService::start_remote`](super::gateway::GatewayService::start_remote) take them; [`clearing`](crate::clearing) says who does
//! what, and [`with_clearing`](super::issuer::IssuerService::with_clearing) is the issuer's side.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use super::hop::{self, Base, Hop, HopBody, HopError, Keep, Way};
use super::wire::{CLEARING_PATH, DIRECTORY_PATH};
use crate::clearing::ClearingAnswer;
use crate::protocol::{DecodeError, SignedDirectory};

/// How long one request to the issuer may take. What is not answered by then is asked again.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Longest directory, and some.
const MAX_DIRECTORY: usize = (1 << 20) + 4_096;

/// Reaches an issuer. Cheap to clone.
///
/// An attacker that can forge the issuer's answers makes a gateway serve unpaid calls. So the issuer must be authenticated: by TLS against the
/// system's certificate authorities, or by being on this machine.
#[derive(Clone)]
pub struct IssuerClient {
    http: Hop,
    base: Base,
}

impl core::fmt::Debug for IssuerClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IssuerClient").field("url", &self.base.to_string()).finish_non_exhaustive()
    }
}

/// Why an [`IssuerClient`] cannot be made. The operator is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerClientError {
    /// The address is no URL with a host and without a query.
    #[error("`{0}` is no address of an issuer")]
    Url(String),
    /// The address is not `https`, so that nobody knows who answers.
    #[error("`{0}` must use https: a man in the middle could get unpaid calls served")]
    NotSecure(String),
    /// The address of plain HTTP is not one of this machine (`127.0.0.0/8`, `[::1]`).
    #[error("`{0}` is not an address of this machine")]
    NotLoopback(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[source] rustls::Error),
}

/// Why the issuer gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerTrouble {
    /// It was not reached and has not seen the request.
    #[error("the issuer cannot be reached: {0}")]
    Unreached(#[source] HopError),
    /// It refused the request unread, most likely because too much waits.
    #[error("the issuer refused the request unread: {0}")]
    Unread(StatusCode),
    /// The answer was lost, or did not come in time. The issuer may have carried the request out.
    #[error("the issuer's answer was lost: {0}")]
    Lost(#[source] HopError),
    /// The answer is longer than any.
    #[error("the issuer's answer is too long")]
    TooLong,
    /// The answer is not what it should be.
    #[error("the issuer's answer is malformed: {0}")]
    Decode(#[from] DecodeError),
}

impl IssuerTrouble {
    /// Whether the request was certainly not carried out.
    pub fn is_undone(&self) -> bool {
        matches!(self, Self::Unreached(_) | Self::Unread(_))
    }
}

impl IssuerClient {
    /// An issuer anywhere, by `https`, authenticated against the system's certificate authorities.
    ///
    /// # Errors
    /// [`IssuerClientError`].
    pub fn secure(url: &str) -> Result<Self, IssuerClientError> {
        let base = read(url)?;
        if !base.is_https() {
            return Err(IssuerClientError::NotSecure(url.to_owned()));
        }
        let tls = hop::trusting_platform().map_err(IssuerClientError::Tls)?;
        Ok(Self { http: hop(Some(tls)), base })
    }

    /// An issuer on this machine, by plain HTTP at a loopback address.
    ///
    /// # Errors
    /// [`IssuerClientError`].
    pub fn loopback(url: &str) -> Result<Self, IssuerClientError> {
        let base = read(url)?;
        // A name may lead anywhere.
        let address: Option<IpAddr> = base.host().parse().ok();
        if !address.is_some_and(|address| address.is_loopback()) || base.is_https() {
            return Err(IssuerClientError::NotLoopback(url.to_owned()));
        }
        Ok(Self { http: hop(None), base })
    }

    /// The directory that the issuer shows. It is not verified yet.
    ///
    /// # Errors
    /// [`IssuerTrouble`].
    pub async fn directory(&self) -> Result<SignedDirectory, IssuerTrouble> {
        let answer = self.begin(Method::GET, DIRECTORY_PATH, Bytes::new()).await?;
        Ok(SignedDirectory::from_bytes(&whole(answer, MAX_DIRECTORY).await?)?)
    }

    /// Sends an envelope, and gives the bytes of the answer.
    pub(in crate::http) async fn clear(&self, envelope: Vec<u8>) -> Result<Bytes, IssuerTrouble> {
        let answer = self.begin(Method::POST, CLEARING_PATH, envelope.into()).await?;
        whole(answer, ClearingAnswer::MAX_LENGTH).await
    }

    /// Begins a request. What is not answered by 200 was not carried out.
    async fn begin(&self, method: Method, path: &str, body: Bytes) -> Result<Response<HopBody>, IssuerTrouble> {
        let answer = self.pass(method, path, body).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            other => Err(IssuerTrouble::Unread(other)),
        }
    }

    /// Begins a request, whatever the answer.
    pub(in crate::http) async fn pass(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<HopBody>, IssuerTrouble> {
        let trouble = |error: HopError| match error.is_unsent() {
            true => IssuerTrouble::Unreached(error),
            false => IssuerTrouble::Lost(error),
        };
        let address = self.base.place(path).ok_or_else(|| trouble(HopError::target()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self.http.send(address, method, headers, body, None).await.map_err(trouble)
    }
}

/// Each way to the issuer is the gateway's own, so that connections are kept: they say nothing of callers.
fn hop(tls: Option<rustls::ClientConfig>) -> Hop {
    Hop::new(Way::Straight, tls.map(Arc::new), Keep::Idle, Duration::from_secs(5), TIMEOUT)
}

fn read(url: &str) -> Result<Base, IssuerClientError> {
    Base::read(url).ok_or_else(|| IssuerClientError::Url(url.to_owned()))
}

async fn whole(answer: Response<HopBody>, max: usize) -> Result<Bytes, IssuerTrouble> {
    let mut body = answer.into_body();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(IssuerTrouble::Lost)?.into_data() else { continue };
        if read.len() + chunk.len() > max {
            return Err(IssuerTrouble::TooLong);
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

impl From<IssuerClientError> for io::Error {
    fn from(error: IssuerClientError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_nobody_vouches_for_is_not_asked() {
        assert!(IssuerClient::secure("https://issuer.example.org").is_ok());
        for url in ["http://issuer.example.org", "http://127.0.0.1:1"] {
            assert!(matches!(IssuerClient::secure(url), Err(IssuerClientError::NotSecure(_))), "{url}");
        }
        for url in ["http://127.0.0.1:8081", "http://[::1]:8081/", "http://127.9.9.9/issuer"] {
            assert!(IssuerClient::loopback(url).is_ok(), "{url}");
        }
        for url in ["http://localhost:1", "http://10.0.0.1", "http://[2001:db8::1]", "https://127.0.0.1"] {
            assert!(matches!(IssuerClient::loopback(url), Err(IssuerClientError::NotLoopback(_))), "{url}");
        }
        for url in ["nonsense", "https://", "https://a/?b", "https://a/#b", "https://me@a", "data:x"] {
            assert!(matches!(IssuerClient::secure(url), Err(IssuerClientError::Url(_))), "{url}");
        }
    }
}
