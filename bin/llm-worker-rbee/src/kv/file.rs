//! The form of a kept prefix, bytes to parts and back. Pure.
//!
//! ```text
//!   magic 8 │ version 4 │ total length 8 │ identity length 4, text │ number of tokens 4, tokens 4 each │ state │ SHA-256 32
//! ```
//!
//! Numbers are little-endian. The checksum is of everything before it.

use sha2::{Digest, Sha256};

use crate::engine::Token;

const MAGIC: &[u8; 8] = b"RBEE-KV\n";
/// Of this form; another one is not read.
pub const VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 32;

/// A kept prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Which text.
    pub tokens: Vec<Token>,
    /// What the engine knows after it.
    pub state: Vec<u8>,
}

/// Why a file is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is something else.
    #[error("it is no kept prefix")]
    Foreign,
    /// Another release wrote it.
    #[error("it has version {found}, not {VERSION}")]
    Version {
        /// What it says.
        found: u32,
    },
    /// It is not as long as it says.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// What it has.
        found: u64,
        /// What it says.
        expected: u64,
    },
    /// Something in it has changed.
    #[error("its checksum is wrong")]
    Checksum,
    /// It belongs to another model, context, engine or processor.
    #[error("it was made by another model or engine: {found}")]
    Identity {
        /// What it says.
        found: String,
    },
    /// Its parts do not fit.
    #[error("its parts do not fit together")]
    Malformed,
}

/// The bytes of a file.
///
/// # Errors
/// When a part is longer than 4 GiB.
pub fn encode(identity: &str, tokens: &[Token], state: &[u8]) -> Result<Vec<u8>, std::num::TryFromIntError> {
    let total = MAGIC.len() + 4 + 8 + 4 + identity.len() + 4 + 4 * tokens.len() + state.len() + CHECKSUM_BYTES;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(total as u64).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(identity.len())?.to_le_bytes());
    bytes.extend_from_slice(identity.as_bytes());
    bytes.extend_from_slice(&u32::try_from(tokens.len())?.to_le_bytes());
    tokens.iter().for_each(|token| bytes.extend_from_slice(&token.0.to_le_bytes()));
    bytes.extend_from_slice(state);
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    Ok(bytes)
}

/// The parts of a file that is whole and belongs to `identity`.
///
/// # Errors
/// [`Refusal`].
pub fn decode(bytes: &[u8], identity: &str) -> Result<Prefix, Refusal> {
    let mut rest = Reader(bytes);
    if rest.take(MAGIC.len()).is_none_or(|magic| magic != MAGIC) {
        return Err(Refusal::Foreign);
    }
    let found = bytes.len() as u64;
    let cut = Refusal::Length { found, expected: found + 1 };
    let version = rest.u32().ok_or_else(|| cut.clone())?;
    if version != VERSION {
        return Err(Refusal::Version { found: version });
    }
    let expected = rest.u64().ok_or(cut)?;
    if expected != found {
        return Err(Refusal::Length { found, expected });
    }
    let body = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(Refusal::Malformed)?;
    if Sha256::digest(&bytes[..body])[..] != bytes[body..] {
        return Err(Refusal::Checksum);
    }
    rest.0 = rest.0.get(..rest.0.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default();
    parts(&mut rest, identity)
}

fn parts(rest: &mut Reader<'_>, identity: &str) -> Result<Prefix, Refusal> {
    let length = rest.u32().ok_or(Refusal::Malformed)?;
    let found = rest.take(length as usize).ok_or(Refusal::Malformed)?;
    if found != identity.as_bytes() {
        return Err(Refusal::Identity { found: String::from_utf8_lossy(found).into_owned() });
    }
    let count = rest.u32().ok_or(Refusal::Malformed)? as usize;
    let tokens = rest.take(count.saturating_mul(4)).ok_or(Refusal::Malformed)?;
    let tokens = tokens.chunks_exact(4).map(|four| Token(i32::from_le_bytes([four[0], four[1], four[2], four[3]])));
    Ok(Prefix { tokens: tokens.collect(), state: rest.0.to_vec() })
}

/// What is left of a file.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        encode("model a", &[Token(1), Token(-7), Token(49_000)], b"state").unwrap()
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(decode(b"GGUF and more", "model a"), Err(Refusal::Foreign));
        assert_eq!(decode(b"", "model a"), Err(Refusal::Foreign));
        let mut newer = sample();
        newer[8] = 2;
        assert_eq!(decode(&newer, "model a"), Err(Refusal::Version { found: 2 }));
        let other = Refusal::Identity { found: "model a".into() };
        assert_eq!(decode(&sample(), "model b"), Err(other));
        let longer = [sample(), vec![0]].concat();
        assert!(matches!(decode(&longer, "model a"), Err(Refusal::Length { .. })));
    }

    /// WORK-15.
    #[test]
    fn a_file_with_any_one_bit_flipped_or_cut_anywhere_is_refused() {
        let whole = sample();
        for place in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            assert!(decode(&flipped, "model a").is_err(), "bit {place}");
        }
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], "model a").is_err(), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            identity in ".{0,40}", tokens in prop::collection::vec(any::<i32>().prop_map(Token), 0..40),
            state in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let bytes = encode(&identity, &tokens, &state).unwrap();
            prop_assert_eq!(decode(&bytes, &identity), Ok(Prefix { tokens, state }));
        }

        #[test]
        fn noise_is_refused(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&[&MAGIC[..], &noise].concat(), "x").is_err());
        }
    }
}
