//! Content codings (RFC 9110, section 8.4.1), undone within limits.

use std::io::{self, Read as _, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::header::{self, HeaderMap};

/// Longest window that a zstd frame may ask for, bytes: what RFC 8878 has every decoder support.
const WINDOW: u64 = 8 << 20;

/// Why a content cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodingError {
    #[error("a content coding that is not known here")]
    Unknown,
    #[error("a content that its coding does not allow")]
    Broken,
    #[error("a content that is too long when it is decoded")]
    TooLong,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    /// The coding of a content. None if it is as it is.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, CodingError> {
        let mut found = None;
        for line in headers.get_all(header::CONTENT_ENCODING) {
            let line = line.to_str().map_err(|_| CodingError::Unknown)?.to_ascii_lowercase();
            for name in line.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "identity")) {
                let coding = match name {
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    _ => return Err(CodingError::Unknown),
                };
                // One in the other is nothing that anybody means.
                if found.replace(coding).is_some() {
                    return Err(CodingError::Unknown);
                }
            }
        }
        Ok(found)
    }

    /// Decodes a content that is whole.
    pub(crate) fn decode(self, content: &[u8], max: usize) -> Result<Bytes, CodingError> {
        if self == Self::Zstd {
            return zstd(content, max);
        }
        let mut decoder = Decoder::new(self, max)?;
        let decoded = decoder.push(content)?;
        let rest = decoder.end()?;
        Ok(if rest.is_empty() { decoded } else { [decoded, rest].concat().into() })
    }
}

fn zstd(content: &[u8], max: usize) -> Result<Bytes, CodingError> {
    let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(content, WINDOW);
    let decoder = decoder.map_err(|_| CodingError::Broken)?;
    let mut decoded = Vec::new();
    decoder.take(max as u64 + 1).read_to_end(&mut decoded).map_err(|_| CodingError::Broken)?;
    if decoded.len() > max { Err(CodingError::TooLong) } else { Ok(decoded.into()) }
}

/// A content that is decoded as it comes.
pub(crate) struct Decoder(Decoding);

enum Decoding {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    /// The first bytes say whether it is as RFC 9110 has it, or bare as some send it.
    Deflate(Vec<u8>, usize),
    Zlib(Box<ZlibDecoder<Bounded>>),
    Bare(Box<DeflateDecoder<Bounded>>),
}

impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Decoder")
    }
}

/// Takes no more than so many bytes.
struct Bounded {
    here: Vec<u8>,
    left: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.here.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(error: &io::Error) -> CodingError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => CodingError::TooLong,
        _ => CodingError::Broken,
    }
}

impl Decoder {
    /// Decodes up to `max` bytes.
    ///
    /// # Errors
    /// [`CodingError::Unknown`] of zstd, which is not decoded in pieces.
    pub(crate) fn new(coding: Coding, max: usize) -> Result<Self, CodingError> {
        match coding {
            Coding::Gzip => {
                Ok(Self(Decoding::Gzip(Box::new(MultiGzDecoder::new(Bounded { here: Vec::new(), left: max })))))
            }
            Coding::Deflate => Ok(Self(Decoding::Deflate(Vec::new(), max))),
            Coding::Zstd => Err(CodingError::Unknown),
        }
    }

    /// Takes a chunk, and gives what is decoded by it.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Bytes, CodingError> {
        if let Decoding::Deflate(first, max) = &mut self.0 {
            first.extend_from_slice(chunk);
            let [one, two, ..] = first[..] else { return Ok(Bytes::new()) };
            let sink = Bounded { here: Vec::new(), left: *max };
            let first = core::mem::take(first);
            let zlib = one & 0x0f == 8 && u16::from_be_bytes([one, two]) % 31 == 0;
            self.0 = if zlib {
                Decoding::Zlib(Box::new(ZlibDecoder::new(sink)))
            } else {
                Decoding::Bare(Box::new(DeflateDecoder::new(sink)))
            };
            return self.push(&first);
        }
        let written = match &mut self.0 {
            Decoding::Gzip(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Decoding::Zlib(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Decoding::Bare(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()),
            Decoding::Deflate(..) => Ok(()),
        };
        written.map_err(|error| failed(&error))?;
        Ok(self.take())
    }

    /// Ends it, and gives what is left. What is not whole is an error.
    pub(crate) fn end(&mut self) -> Result<Bytes, CodingError> {
        let ended = match &mut self.0 {
            Decoding::Gzip(decoder) => decoder.try_finish(),
            Decoding::Zlib(decoder) => decoder.try_finish(),
            Decoding::Bare(decoder) => decoder.try_finish(),
            Decoding::Deflate(first, _) if first.is_empty() => Ok(()),
            Decoding::Deflate(..) => return Err(CodingError::Broken),
        };
        ended.map_err(|error| failed(&error))?;
        Ok(self.take())
    }

    fn take(&mut self) -> Bytes {
        let sink = match &mut self.0 {
            Decoding::Gzip(decoder) => decoder.get_mut(),
            Decoding::Zlib(decoder) => decoder.get_mut(),
            Decoding::Bare(decoder) => decoder.get_mut(),
            Decoding::Deflate(..) => return Bytes::new(),
        };
        core::mem::take(&mut sink.here).into()
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn coded(content: &[u8]) -> [(Coding, Vec<u8>); 4] {
        let level = Compression::default();
        let (mut gzip, mut zlib, mut bare) = (
            GzEncoder::new(Vec::new(), level),
            ZlibEncoder::new(Vec::new(), level),
            DeflateEncoder::new(Vec::new(), level),
        );
        gzip.write_all(content).unwrap();
        zlib.write_all(content).unwrap();
        bare.write_all(content).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest);
        [
            (Coding::Gzip, gzip.finish().unwrap()),
            (Coding::Deflate, zlib.finish().unwrap()),
            (Coding::Deflate, bare.finish().unwrap()),
            (Coding::Zstd, zstd),
        ]
    }

    #[test]
    fn what_is_coded_is_decoded_whole_and_in_pieces() {
        let content = "some words of a prompt ".repeat(500).into_bytes();
        for (coding, coded) in coded(&content) {
            assert_eq!(coding.decode(&coded, content.len()).unwrap(), content, "{coding:?}");
            assert_eq!(coding.decode(&coded, content.len() - 1), Err(CodingError::TooLong), "{coding:?}");
            for size in [1, 7, 1_000] {
                let Ok(mut decoder) = Decoder::new(coding, 1 << 20) else { continue };
                let mut decoded = Vec::new();
                coded.chunks(size).for_each(|chunk| decoded.extend(decoder.push(chunk).unwrap()));
                decoded.extend(decoder.end().unwrap());
                assert_eq!(decoded, content, "{coding:?} by {size}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_no_such_coding_is_an_error() {
        for (coding, coded) in coded(&"x y z ".repeat(100).into_bytes()) {
            assert!(coding.decode(&coded[..coded.len() - 3], 1 << 20).is_err(), "{coding:?}");
            assert!(coding.decode(b"{\"stream\":true}", 1 << 20).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn only_one_coding_that_is_known_is_undone() {
        let of = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
            }
            Coding::of(&headers)
        };
        assert_eq!((of(&[]), of(&["identity"]), of(&[""])), (Ok(None), Ok(None), Ok(None)));
        assert_eq!((of(&["GZip"]), of(&["identity", "zstd"])), (Ok(Some(Coding::Gzip)), Ok(Some(Coding::Zstd))));
        for lines in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"], &["gzip;q=1"]] {
            assert_eq!(of(lines), Err(CodingError::Unknown), "{lines:?}");
        }
    }
}
