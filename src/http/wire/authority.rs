//! The authority of an origin, as session signatures have it.

/// The authority of an origin as session signatures have it, and with the port always.
pub fn authorities(origin: &str) -> Option<(String, String)> {
    crate::http::hop::Base::read(origin).map(|base| base.authorities())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_origins() {
        let of = |origin| authorities(origin).unwrap();
        assert_eq!(of("https://API.example.org"), ("api.example.org".into(), "api.example.org:443".into()));
        assert_eq!(of("http://127.0.0.1:8080/"), ("127.0.0.1:8080".into(), "127.0.0.1:8080".into()));
        assert_eq!(of("http://[::1]:80"), ("[::1]".into(), "[::1]:80".into()));
        assert_eq!(authorities("nonsense"), None);
    }
}
