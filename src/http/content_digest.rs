//! The field `Content-Digest` (RFC 9530): the digest of a body, for those who get the request without it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
#[cfg(any(feature = "server", test))]
use http::HeaderMap;
use http::HeaderName;
#[cfg(any(feature = "client", test))]
use http::HeaderValue;

use crate::protocol::ContentDigest;

/// Name of the field.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The field cannot be read, or says two things. The caller is at fault.
#[cfg(any(feature = "server", test))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Content-Digest is not of the form sha-256=:...:")]
pub(crate) struct ContentDigestError;

/// The value of the field.
#[cfg(any(feature = "client", test))]
pub(crate) fn write(digest: &ContentDigest) -> HeaderValue {
    let text = format!("sha-256=:{}:", STANDARD.encode(digest.to_bytes()));
    // Base64 is visible ASCII.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The SHA-256 among the digests of a request; none if there is none. Stricter than RFC 9530 asks: parameters, values that are no
/// byte sequences, and a second SHA-256 are refused, so that nobody who reads it more loosely finds another digest than we do.
#[cfg(any(feature = "server", test))]
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<ContentDigest>, ContentDigestError> {
    let mut found = None;
    for line in headers.get_all(CONTENT_DIGEST) {
        let line = line.to_str().map_err(|_| ContentDigestError)?;
        for member in line.split(',') {
            let (name, value) = member.trim_matches([' ', '\t']).split_once('=').ok_or(ContentDigestError)?;
            let value = value.strip_prefix(':').and_then(|value| value.strip_suffix(':')).ok_or(ContentDigestError)?;
            let bytes = STANDARD.decode(value).map_err(|_| ContentDigestError)?;
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(ContentDigestError);
            }
            if name == "sha-256" {
                let bytes = bytes.try_into().map_err(|_| ContentDigestError)?;
                if found.replace(ContentDigest::from_bytes(bytes)).is_some() {
                    return Err(ContentDigestError);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lines(lines: &[&str]) -> Result<Option<ContentDigest>, ContentDigestError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_DIGEST, line.parse().unwrap());
        }
        read(&headers)
    }

    #[test]
    fn what_is_written_is_read_back_among_others() {
        let digest = ContentDigest::of(b"{\"hello\": \"world\"}");
        let value = write(&digest);
        // The example of RFC 9530, appendix B.
        assert_eq!(value, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
        let value = value.to_str().unwrap();
        let other = "sha-512=:AAAA:";
        for lines in [&[value][..], &[other, value], &[&format!("{other},\t{value}")]] {
            assert_eq!(read_lines(lines), Ok(Some(digest)), "{lines:?}");
        }
        assert_eq!((read_lines(&[]), read_lines(&[other])), (Ok(None), Ok(None)));
    }

    #[test]
    fn what_says_two_things_or_none_is_refused() {
        let value = write(&ContentDigest::of(b"")).to_str().unwrap().to_owned();
        for lines in [
            &[value.as_str(), value.as_str()][..],
            &[&format!("{value}, {value}")],
            &[&format!("{value};q=1")],
            &[&format!("a=\"x, {value}\"")],
            &[&value.replace("sha-256", "SHA-256")],
            &[&value.replace("sha-256=", "")],
            &[&value.replace('=', "")],
            &["sha-256=:AAAA:"],
            &["sha-256"],
            &[""],
            &[&format!("{value},")],
        ] {
            assert_eq!(read_lines(lines), Err(ContentDigestError), "{lines:?}");
        }
    }
}
