//! The store against a web server and a pip of the test's own.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails its test")]

mod in_place;
mod pypi;
mod server;
mod web;

use std::path::Path;

use model_store::{ModelSource, Sha256Digest};

/// The content most tests fetch.
const CONTENT: &[u8] = b"not a model, but bytes";

fn source(text: &str) -> ModelSource {
    text.parse().unwrap()
}

fn sha256_of(content: &[u8]) -> Sha256Digest {
    use sha2::{Digest, Sha256};
    Sha256Digest::from(<[u8; 32]>::from(Sha256::digest(content)))
}

/// Names in the folder, but for the lock that stays.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}
