//! TLS for what is asked elsewhere.

/// TLS against the system's certificate authorities.
#[cfg(feature = "server")]
pub(crate) fn with_tls(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    // The provider is per process. Whoever embeds this crate may have chosen one already; then theirs is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder
}

/// A client that only ever speaks plain HTTP needs no certificate authorities: it starts faster, and on machines without any.
pub(crate) fn without_tls(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    builder.tls_certs_only([])
}
