//! Reading and writing the canonical encodings.

use subtle::CtOption;

/// Why bytes are not the encoding of what they should be. The sender is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A structure of fixed length has another one.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// What it should be, bytes.
        expected: usize,
        /// What it is, bytes.
        found: usize,
    },
    /// The bytes end early.
    #[error("the bytes end early")]
    Truncated,
    /// Bytes follow the structure.
    #[error("bytes follow the structure")]
    Trailing,
    /// Another version than [`VERSION`](super::VERSION).
    #[error("version {0} is not supported")]
    Version(u8),
    /// A field is not canonical, or out of its range.
    #[error("{0} is not canonical or out of range")]
    Field(&'static str),
}

/// Reads a structure from its first byte to its last.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// As `new`, of bytes that must have a certain length.
    pub(crate) fn exact(bytes: &'a [u8], expected: usize) -> Result<Self, DecodeError> {
        if bytes.len() != expected {
            return Err(DecodeError::Length { expected, found: bytes.len() });
        }
        Ok(Self::new(bytes))
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn version(&mut self) -> Result<(), DecodeError> {
        match self.u8()? {
            super::VERSION => Ok(()),
            other => Err(DecodeError::Version(other)),
        }
    }

    /// A field of `N` bytes that has a canonical form.
    pub(crate) fn canonical<const N: usize, T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&[u8; N]) -> CtOption<T>,
    ) -> Result<T, DecodeError> {
        Option::from(read(&self.array()?)).ok_or(DecodeError::Field(name))
    }

    /// ASCII text of at most `limit` bytes behind its length in one byte; visible characters only, at least one.
    pub(crate) fn text(&mut self, name: &'static str, limit: usize) -> Result<String, DecodeError> {
        let length = usize::from(self.u8()?);
        let text = self.take(length)?;
        match core::str::from_utf8(text) {
            Ok(text) if is_text(text, limit) => Ok(text.to_owned()),
            _ => Err(DecodeError::Field(name)),
        }
    }

    /// A list behind its length in two bytes.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        limit: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::from(self.u16()?);
        if count > limit {
            return Err(DecodeError::Field(name));
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Whether it is text as [`Reader::text`] reads it.
pub(crate) fn is_text(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Appends what [`Reader::text`] reads. The text has been checked to have at most 255 bytes.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(u8::try_from(text.len()).expect("checked when the structure was made"));
    out.extend_from_slice(text.as_bytes());
}

/// Appends the length of a list, checked to be below 2^16.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).expect("checked when the structure was made").to_be_bytes());
}
