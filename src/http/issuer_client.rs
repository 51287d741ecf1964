//! Gateways that share no set with their issuer: what they are made of, and how they reach him.
//!
//! [`PaymentLayer::start_remote`](super::layer::PaymentLayer::start_remote) and
//! [`GatewayService::start_remote`](super::gateway::GatewayService::start_remote) take them; [`clearing`](crate::clearing) says who does
//! what, and [`with_clearing`](super::issuer::IssuerService::with_clearing) is the issuer's side.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt as _;
use reqwest::Url;

use super::tls::{with_tls, without_tls};
use super::wire::{CLEARING_PATH, DIRECTORY_PATH};
use crate::clearing::ClearingAnswer;
use crate::protocol::{DecodeError, SignedDirectory};

/// How long one request to the issuer may take. What is not answered by then is asked again.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Longest directory, and some.
const MAX_DIRECTORY: usize = (1 << 20) + 4_096;

/// Reaches an issuer. Cheap to clone.
///
/// Whoever can forge the issuer's answers makes a gateway serve what is not paid, so that he has to be authenticated: by TLS against the
/// system's certificate authorities, or by being on this machine.
#[derive(Clone)]
pub struct IssuerClient {
    http: reqwest::Client,
    base: Url,
}

impl core::fmt::Debug for IssuerClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("IssuerClient").field("url", &self.base.as_str()).finish_non_exhaustive()
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
    #[error("`{0}` is not https: whoever stands between could have unpaid calls served")]
    NotSecure(String),
    /// The address of plain HTTP is not one of this machine (`127.0.0.0/8`, `[::1]`).
    #[error("`{0}` is not an address of this machine")]
    NotLoopback(String),
    /// The HTTP client cannot be set up.
    #[error("cannot set up an HTTP client: {0}")]
    Setup(#[source] reqwest::Error),
}

/// Why the issuer gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerTrouble {
    /// He was not reached: he has not seen the request.
    #[error("the issuer cannot be reached: {0}")]
    Unreached(#[source] reqwest::Error),
    /// He refused it unread, most likely because too much waits.
    #[error("the issuer refused the request unread: {0}")]
    Unread(StatusCode),
    /// The answer was lost, or did not come in time. He may have carried the request out.
    #[error("the issuer's answer was lost: {0}")]
    Lost(#[source] reqwest::Error),
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
        if base.scheme() != "https" {
            return Err(IssuerClientError::NotSecure(url.to_owned()));
        }
        let http = with_tls(builder().https_only(true)).build().map_err(IssuerClientError::Setup)?;
        Ok(Self { http, base })
    }

    /// An issuer on this machine, by plain HTTP at a loopback address.
    ///
    /// # Errors
    /// [`IssuerClientError`].
    pub fn loopback(url: &str) -> Result<Self, IssuerClientError> {
        let base = read(url)?;
        let host = base.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        // A name may lead anywhere.
        let address: Option<IpAddr> = host.parse().ok();
        if !address.is_some_and(|address| address.is_loopback()) || base.scheme() != "http" {
            return Err(IssuerClientError::NotLoopback(url.to_owned()));
        }
        let http = without_tls(builder()).build().map_err(IssuerClientError::Setup)?;
        Ok(Self { http, base })
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
    async fn begin(&self, method: Method, path: &str, body: Bytes) -> Result<reqwest::Response, IssuerTrouble> {
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
    ) -> Result<reqwest::Response, IssuerTrouble> {
        let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
        let request =
            self.http.request(method, url).header(header::CONTENT_TYPE, "application/octet-stream").body(body);
        request.send().await.map_err(|error| match error.is_connect() {
            true => IssuerTrouble::Unreached(error.without_url()),
            false => IssuerTrouble::Lost(error.without_url()),
        })
    }
}

/// Each way to the issuer is the gateway's own, so that connections are kept: they say nothing of callers.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

fn read(url: &str) -> Result<Url, IssuerClientError> {
    let invalid = || IssuerClientError::Url(url.to_owned());
    let base = Url::parse(url).map_err(|_| invalid())?;
    let plain = base.query().is_none() && base.fragment().is_none() && base.username().is_empty();
    if base.has_host() && plain && base.password().is_none() { Ok(base) } else { Err(invalid()) }
}

async fn whole(answer: reqwest::Response, max: usize) -> Result<Bytes, IssuerTrouble> {
    let (_, mut body) = http::Response::<reqwest::Body>::from(answer).into_parts();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|error| IssuerTrouble::Lost(error.without_url()))?.into_data() else { continue };
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
