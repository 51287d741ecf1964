//! JSON objects that are changed in one place, and stay as they were written in all others.

use core::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in their order, repeated ones included; each value as it was written.
#[derive(Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl Members {
    /// The object in a text. None if it is none.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// All members.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// The values of a member, as often as it occurs.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a RawValue> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// The object without a member, and with it again at its end.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let mut text = String::from("{");
        for (own, value) in self.0.iter().filter(|(own, _)| own != name) {
            // A name that was read can be written.
            text.extend([&serde_json::to_string(own).unwrap_or_default(), ":", value.get(), ","]);
        }
        text.extend([&serde_json::to_string(name).unwrap_or_default(), ":", value, "}"]);
        text
    }
}
