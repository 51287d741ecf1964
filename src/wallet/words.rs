//! The root secret as words.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

use super::RootSecret;

/// Number of words of a root secret.
const COUNT: usize = 24;

/// Why words are no root secret. No error repeats a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordsError {
    /// There are not 24 of them.
    #[error("{0} words are no root secret; give all 24")]
    Count(usize),
    /// A word is not in the list of BIP-39.
    #[error("word {0} is not in the list of BIP-39 words; compare its spelling")]
    Unknown(usize),
    /// Each is a word, and together they are not what was shown: one is another, or two have changed places.
    #[error("the check among the words does not hold; compare each word and their order")]
    Check,
}

impl RootSecret {
    /// The 24 words of BIP-39 (English) whose entropy it is, with a space between them. They are the secret: show them to its owner
    /// and to nobody else.
    pub fn to_words(&self) -> Zeroizing<String> {
        let bytes = self.to_bytes();
        let words = Mnemonic::from_entropy_in(Language::English, &bytes[..]);
        let words = words.expect("BIP-39 has words for every 32 bytes");
        // As long as the longest: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(COUNT * 9));
        for word in words.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// From its 24 words, in any case of letters and with any white space between them.
    ///
    /// # Errors
    /// [`WordsError`].
    pub fn from_words(text: &str) -> Result<Self, WordsError> {
        let text = Zeroizing::new(text.to_lowercase());
        let count = text.split_whitespace().count();
        if count != COUNT {
            return Err(WordsError::Count(count));
        }
        if let Some(at) = text.split_whitespace().position(|word| Language::English.find_word(word).is_none()) {
            return Err(WordsError::Unknown(at + 1));
        }
        let words = Mnemonic::parse_in_normalized(Language::English, &text).map_err(|_| WordsError::Check)?;
        let (bytes, length) = words.to_entropy_array();
        let bytes = Zeroizing::new(bytes);
        let entropy = bytes.get(..length).and_then(|bytes| bytes.first_chunk::<32>()).ok_or(WordsError::Check)?;
        Ok(Self::from_bytes(*entropy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation of BIP-39.
    const VECTORS: [(u8, &str); 2] = [
        (
            0x00,
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
             abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
        ),
        (
            0x7f,
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal \
             winner thank year wave sausage worth title",
        ),
    ];

    #[test]
    fn words_are_those_of_bip_39() {
        for (byte, words) in VECTORS {
            assert_eq!(RootSecret::from_bytes([byte; 32]).to_words().as_str(), words);
            let read = RootSecret::from_words(&format!("\n {}\t", words.to_uppercase().replace(' ', "  "))).unwrap();
            assert_eq!(*read.to_bytes(), [byte; 32]);
        }
    }

    #[test]
    fn words_that_are_wrong_say_where_and_not_what() {
        let (_, words) = VECTORS[1];
        let refused = |text: &str| RootSecret::from_words(text).unwrap_err();
        assert_eq!(refused(""), WordsError::Count(0));
        assert_eq!(refused(&words[6..]), WordsError::Count(23));
        assert_eq!(refused(&format!("{words} art")), WordsError::Count(25));
        assert_eq!(refused(&words.replacen("year", "yeer", 1)), WordsError::Unknown(4));
        assert_eq!(refused(&words.replacen("thank year", "year thank", 1)), WordsError::Check);
        assert_eq!(refused(&words.replacen("legal", "abandon", 1)), WordsError::Check);
        assert!(!refused(&words.replacen("year", "yeer", 1)).to_string().contains("yeer"));
    }
}
