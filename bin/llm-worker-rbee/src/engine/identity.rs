//! What a sequence's state depends on, as a line of text: states are exchanged only between engines of equal lines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::llama::LlamaConfig;
use super::{ModelInfo, state};

/// Of llama-cpp-sys-2, which is llama.cpp itself; the workspace's Cargo.toml pins it.
const LIBRARY: &str = "llama-cpp-sys-2 0.1.161";
/// Of the model's file these many pieces are looked at, spread over all of it...
const PIECES: u64 = 64;
/// ...of this size, bytes. A model of several GiB is not read as a whole for that.
const PIECE_BYTES: usize = 64 << 10;

/// The line for a model loaded in this way.
///
/// # Errors
/// When the model's file cannot be read any more.
pub(super) fn of(config: &LlamaConfig, info: &ModelInfo) -> io::Result<String> {
    let model = fingerprint(&config.model_path)?;
    let LlamaConfig { slots, deterministic, .. } = config;
    let (context, abilities) = (info.context_tokens, state::abilities());
    Ok(format!(
        "model {model}; context {context}; slots {slots}; deterministic {deterministic}; kv f16; {LIBRARY}; {abilities}"
    ))
}

/// Size and checksum of a file's beginning, end and what lies evenly between.
fn fingerprint(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let last = size.saturating_sub(PIECE_BYTES as u64);
    for number in 0..PIECES {
        let mut read = 0;
        let place = last / (PIECES - 1) * number + last % (PIECES - 1) * number / (PIECES - 1);
        while read < piece.len() {
            match file.read_at(&mut piece[read..], place + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        hasher.update(&piece[..read]);
    }
    Ok(format!("{size} {}", hex::encode(&hasher.finalize()[..16])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_librarys_version_is_the_one_that_is_pinned() {
        let manifest = include_str!("../../../../Cargo.toml");
        let version = LIBRARY.split(' ').nth(1).unwrap();
        assert!(manifest.contains(&format!("llama-cpp-sys-2 = {{ version = \"={version}\"")), "{LIBRARY}");
    }

    #[test]
    fn a_fingerprint_sees_beginning_end_middle_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| {
            let path = folder.path().join("model");
            std::fs::write(&path, bytes).unwrap();
            fingerprint(&path).unwrap()
        };
        let whole = vec![7; 10 << 20];
        let same = of(&whole);
        assert_eq!(of(&whole), same);
        // The middle of the file is in a piece, as beginning and end are: with 64 pieces there is one at 32/63 of it.
        let middle = (whole.len() - PIECE_BYTES) / 63 * 32 + 100;
        for place in [0, middle, whole.len() - 1] {
            let mut other = whole.clone();
            other[place] = 8;
            assert_ne!(of(&other), same, "at {place}");
        }
        assert_ne!(of(&whole[1..]), same);
        assert_ne!(of(b""), of(b"x"));
    }
}
