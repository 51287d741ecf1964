//! Spent nullifiers, in pages.
//!
//! An answer in pages is a run of pages, each behind the number of its nullifiers (4 bytes), of 32 bytes each and in ascending order,
//! and ends with a page of none. So one that breaks off is never taken for a shorter one.

use halometer_circuits::note::Nullifier;

#[cfg(any(feature = "client", test))]
use crate::protocol::{DecodeError, Prefix};

/// Writes one page.
#[cfg(feature = "server")]
pub(in crate::http) fn write_page(out: &mut Vec<u8>, page: &[Nullifier]) {
    let count = u32::try_from(page.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    page.iter().for_each(|nullifier| out.extend_from_slice(&nullifier.to_bytes()));
}

/// Reads an answer in pages: all of it, in ascending order, every nullifier of the prefix, up to the page of none that ends it.
///
/// # Errors
/// [`DecodeError`].
#[cfg(any(feature = "client", test))]
pub fn read_pages(mut bytes: &[u8], prefix: Prefix) -> Result<Vec<Nullifier>, DecodeError> {
    let mut all: Vec<Nullifier> = Vec::with_capacity(bytes.len() / 32);
    loop {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
        let length = u64::from(u32::from_be_bytes(*count)) * 32;
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let (page, rest) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        if page.is_empty() {
            return if rest.is_empty() { Ok(all) } else { Err(DecodeError::Trailing) };
        }
        for bytes in page.as_chunks::<32>().0 {
            let nullifier: Option<Nullifier> = Nullifier::from_bytes(bytes).into();
            let nullifier = nullifier.filter(|nullifier| prefix.is_of(nullifier));
            let nullifier = nullifier.ok_or(DecodeError::Field("nullifier"))?;
            if all.last().is_some_and(|last| last.to_bytes() >= *bytes) {
                return Err(DecodeError::Field("order of nullifiers"));
            }
            all.push(nullifier);
        }
        bytes = rest;
    }
}
