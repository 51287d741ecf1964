//! What pages are made of: text that is no markup, numbers and times for people.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::clock::rfc3339;

/// The policy of a page: nothing is loaded or run but the style that is in its template.
pub(in crate::http) fn policy(template: &str) -> String {
    let style = template.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap_or_default();
    let digest = STANDARD.encode(Sha256::digest(style));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// With a thin space after each three digits.
pub(in crate::http) fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

pub(in crate::http) fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// By the minute.
pub(in crate::http) fn utc(seconds: u64) -> String {
    let text = rfc3339(seconds);
    format!("{} UTC", text.rsplit_once(':').map_or(text.as_str(), |(minute, _)| minute).replace('T', " "))
}

pub(in crate::http) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A day since 1970 as a date.
#[cfg(feature = "client")]
pub(in crate::http) fn date(day: u64) -> String {
    rfc3339(day.saturating_mul(86_400)).split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(utc(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!([1, 300, 90_000, 900_000].map(duration), ["1 s", "5 min", "25 h", "10 days"]);
    }
}
