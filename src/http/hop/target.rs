//! Where a request goes: an address, and the target within it, byte for byte.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// The address of a service: `http(s)://host[:port][/path]`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    scheme: Scheme,
    authority: Authority,
    path: String,
}

impl Base {
    /// Reads an address. None if it is of another form: with a user name, a query or a fragment, say.
    pub(crate) fn read(address: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            _ => return None,
        };
        let (host, path) = rest.find(['/', '?', '#', '\\']).map_or((rest, ""), |at| rest.split_at(at));
        let mut authority: Authority = host.to_ascii_lowercase().parse().ok()?;
        let named = !authority.host().is_empty() && !host.contains('@') && !host.ends_with(':');
        let port = authority.port_u16();
        // What stands behind the host is a port, and nothing else.
        let behind = host.len() > authority.host().len();
        if !named || (behind && port.is_none()) {
            return None;
        }
        let usual = if scheme == Scheme::HTTP { 80 } else { 443 };
        if port == Some(usual) {
            authority = authority.host().parse().ok()?;
        }
        let path = path.trim_end_matches('/').to_owned();
        let plain = path.is_empty() || (is_target(&path) && !path.contains('?') && depth(&path).is_some());
        plain.then_some(Self { scheme, authority, path })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Its host, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// The authority without and with the usual port.
    pub(crate) fn authorities(&self) -> (String, String) {
        let usual = if self.is_https() { 443 } else { 80 };
        let (short, host) = (self.authority.to_string(), self.authority.host());
        let long = format!("{host}:{}", self.authority.port_u16().unwrap_or(usual));
        (short, long)
    }

    /// The target as it is, after this address. None if it is no target, or if a server that resolves dot segments could find it outside of
    /// this address's path.
    pub(crate) fn place(&self, target: &str) -> Option<Uri> {
        if !is_target(target) || (!self.path.is_empty() && depth(target).is_none()) {
            return None;
        }
        let whole = format!("{}{target}", self.path);
        let path = PathAndQuery::try_from(whole.as_str()).ok().filter(|read| read.as_str() == whole)?;
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path);
        uri.build().ok()
    }
}

impl core::fmt::Display for Base {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)
    }
}

/// Whether a target (path and query) can be sent as it is: it begins with a slash, and holds nothing that ends a request's line, nor a
/// fragment.
pub(crate) fn is_target(target: &str) -> bool {
    target.starts_with('/') && PathAndQuery::try_from(target).is_ok_and(|read| read.as_str() == target)
}

/// How far a path leads down, whatever of dots, slashes and their escapes a server resolves. None if it leads out at any point.
fn depth(target: &str) -> Option<usize> {
    let path = target.split('?').next().unwrap_or_default().to_ascii_lowercase();
    // Servers differ in what they decode, and how often.
    let mut plain = path;
    loop {
        let decoded = plain.replace("%25", "%").replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
        if decoded == plain {
            break;
        }
        plain = decoded;
    }
    let mut depth = 0_usize;
    for segment in plain.split(['/', '\\']) {
        // What follows a semicolon is a parameter to some.
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => depth = depth.checked_sub(1)?,
            _ => depth += 1,
        }
    }
    Some(depth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_sent_as_it_is_or_not_at_all() {
        let base = Base::read("http://a:9/base").unwrap();
        for target in [
            "/", "/'", "/{}", "/a/../b", "/./a", "/a\\b", "/%2F", "/%2f", "//", "//a//b/", "/?", "/a?", "/?a?b",
            "/a?''{}|", "/ä", "/日本", "/%C3%A4", "/;x=1", "/a;b", "/a%20b", "/\"", "/[x]", "/^", "/a+b", "/~", "/*",
            "/a:b@c", "/%zz", "/%",
        ] {
            let uri = base.place(target).unwrap_or_else(|| panic!("{target}"));
            assert_eq!(uri.path_and_query().unwrap().as_str(), format!("/base{target}"));
            assert_eq!(uri.authority().unwrap(), "a:9");
        }
        for target in
            ["", "*", "a", "/a b", "/a\r\nb", "/a#b", "/#", "/\0", "@evil/", "http://evil/", "/\t", "/\u{7f}x\n"]
        {
            assert!(base.place(target).is_none(), "{target:?}");
        }
    }

    #[test]
    fn no_spelling_of_dots_leads_out_of_the_services_path() {
        let base = Base::read("http://a/base").unwrap();
        for target in [
            "/..",
            "/../x",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a/../../x",
            "/..\\x",
            "/\\..\\x",
            "/%252e%252e/x",
            "/..%2fx",
            "/..;a/x",
            "/a/..%5c..%5cx",
            "//../x",
        ] {
            assert!(base.place(target).is_none(), "{target}");
            assert!(Base::read("http://a").unwrap().place(target).is_some(), "{target}");
        }
        assert!(base.place("/x/../y?/../..").is_some());
    }

    #[test]
    fn addresses_are_read_strictly() {
        for (address, read) in [
            ("http://127.0.0.1:80/base/", "http://127.0.0.1/base"),
            ("HTTPS://API.example.org:443", "https://api.example.org"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
        ] {
            assert_eq!(Base::read(address).unwrap().to_string(), read);
        }
        for address in
            ["", "a", "http://", "ftp://a", "http://a@b", "http://a?b", "http://a/#b", "http://a:x", "http://a:99999"]
        {
            assert!(Base::read(address).is_none(), "{address}");
        }
    }
}
