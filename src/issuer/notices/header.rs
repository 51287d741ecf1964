//! The signature header of a notice.

/// `t=<seconds>,k=<key id>,v1=<hex>`.
pub(super) struct Header<'a> {
    /// `t` as it was written, which is what was signed.
    pub(super) time: &'a str,
    pub(super) seconds: u64,
    pub(super) key: &'a str,
    pub(super) signature: &'a str,
}

const MAX_LENGTH: usize = 1024;

impl<'a> Header<'a> {
    /// None for a header in which a part is missing, comes twice, or is not well-formed. Parts of other names are for later
    /// versions, and nothing is taken from them.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (mut time, mut key, mut signature) = (None, None, None);
        for part in text.split(',') {
            let (name, value) = part.split_once('=')?;
            let place = match name {
                "t" => &mut time,
                "k" => &mut key,
                "v1" => &mut signature,
                _ => continue,
            };
            // Of two values one would be checked and the other one used.
            if place.replace(value).is_some() {
                return None;
            }
        }
        let time = time?;
        Some(Self { time, seconds: digits(time)?, key: key?, signature: signature? })
    }
}

/// A number in its one decimal form: digits only, no leading zero.
pub(super) fn digits(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Lower-case hexadecimal digits of exactly `N` bytes.
pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let read = hex::decode_to_slice(text, &mut bytes);
    (read.is_ok() && !text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(bytes)
}
