//! Pictures and sound among text: what is no words, and no tokens by its length.

use serde_json::Value;

use super::documents::read;

/// A run of letters of base64 that is longer than this is no word of any language, bytes.
const LONGEST_RUN: usize = 512;
/// Members that hold a picture, a sound or a file, or say where there is one.
const MEMBERS: &[&str] = &[
    "image_url",
    "image_file",
    "images",
    "input_audio",
    "audio_url",
    "video_url",
    "inline_data",
    "inlineData",
    "file_data",
    "fileData",
];
/// Types of parts that are one.
const TYPES: &[&str] = &[
    "image",
    "image_url",
    "input_image",
    "input_audio",
    "audio",
    "document",
    "file",
    "input_file",
    "video",
    "video_url",
];

/// Bytes of a text, or of JSON with text in it, but for those of base64: long runs of its letters, of more than a few, or after `base64,`,
/// or of zeros.
pub(crate) fn text_bytes(text: &[u8]) -> u64 {
    // `\/` is how some write a slash.
    let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    let (mut bytes, mut rest) = (0, text);
    while !rest.is_empty() {
        let run = rest.iter().position(|byte| !of_base64(byte)).unwrap_or(rest.len());
        let (letters, after) = rest.split_at(run);
        let before = &text[..text.len() - rest.len()];
        if run <= LONGEST_RUN || !(is_mixed(letters) || letters[0] == b'A' || before.ends_with(b"base64,")) {
            bytes += run as u64;
        }
        let other = after.iter().position(of_base64).unwrap_or(after.len());
        bytes += other as u64;
        rest = &after[other..];
    }
    bytes
}

fn is_mixed(letters: &[u8]) -> bool {
    let mut seen = [false; 256];
    letters.iter().take(LONGEST_RUN).for_each(|letter| seen[usize::from(*letter)] = true);
    seen.into_iter().filter(|seen| *seen).count() >= 4
}

/// Whether a request is about pictures, sound or files.
pub(crate) fn has_media(request: &[u8]) -> bool {
    read(request).is_some_and(|request| holds(&request))
}

fn holds(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(holds),
        Value::Object(members) => members.iter().any(|(name, value)| {
            let is_one = MEMBERS.contains(&name.as_str()) && !value.is_null();
            let of_type = name == "type" && value.as_str().is_some_and(|kind| TYPES.contains(&kind));
            is_one || of_type || holds(value)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_runs_of_base64_are_no_text() {
        let picture = "QUJD".repeat(1_000);
        assert_eq!(text_bytes(b"some words, and a-few_more"), 26);
        assert_eq!(text_bytes(format!("{{\"a\":\"{picture}\"}}").as_bytes()), 8);
        assert_eq!(text_bytes(format!("data:image/png;base64,{picture} x").as_bytes()), 24);
        assert_eq!(text_bytes(format!("base64,{}", "x".repeat(9_000)).as_bytes()), 7);
        assert_eq!((text_bytes(&b"x".repeat(9_000)), text_bytes(&b"A".repeat(9_000))), (9_000, 0));
    }

    #[test]
    fn parts_that_are_no_text_are_found() {
        for part in [
            r#"{"type":"image_url","image_url":{"url":"https://x"}}"#,
            r#"{"type":"input_audio","input_audio":{"data":"x"}}"#,
            r#"{"type":"image","source":{"type":"base64"}}"#,
            r#"{"inlineData":{"data":"x"}}"#,
            r#"{"role":"user","content":"x","images":["x"]}"#,
        ] {
            assert!(has_media(format!(r#"{{"messages":[{part}]}}"#).as_bytes()), "{part}");
        }
        assert!(!has_media(
            br#"{"messages":[{"role":"user","content":"describe the image of an audio file"}],"images":null}"#
        ));
    }
}
