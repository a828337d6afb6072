//! Who asks: keys of `[queen.keys.NAME]`, known by their digest alone.
//!
//! ```text
//!   no keys, on loopback ─▶ anybody
//!   no keys, elsewhere   ─▶ the fleet's token
//!   keys                 ─▶ one of them, for its models; or the fleet's token, for all
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::config::{KeyConfig, Sha256Digest};
use rbee_runtime::token::{TOKEN_LENGTH_MIN, Token};
use sha2::{Digest, Sha256};

/// What usage is counted under that came with the fleet's token.
const FLEET: &str = "(fleet token)";

/// All keys.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    by_digest: HashMap<[u8; 32], Arc<Key>>,
}

/// One key, or the fleet's token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    /// The models it may use; `None`: all.
    models: Option<BTreeSet<String>>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// Absent where nobody is told apart.
    pub(super) key: Option<Arc<Key>>,
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Its file cannot be read.
    #[error("cannot read the file of key `{name}`, {}", path.display())]
    Read {
        /// The key.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its file holds no key.
    #[error("the file of key `{name}`, {}, holds no key: at least {TOKEN_LENGTH_MIN} visible ASCII characters", path.display())]
    Malformed {
        /// The key.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// Two keys are the same.
    #[error("the keys `{name}` and `{other}` are the same")]
    Twice {
        /// One.
        name: String,
        /// The other.
        other: String,
    },
}

impl Keys {
    /// Reads them.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn load(config: &BTreeMap<String, KeyConfig>) -> Result<Self, KeyError> {
        let mut by_digest: HashMap<[u8; 32], Arc<Key>> = HashMap::new();
        for (name, key) in config {
            let digest = match (&key.key_sha256, &key.key_file) {
                (Some(digest), _) => bytes(digest),
                (None, Some(path)) => of_file(name, path)?,
                // The configuration was checked for it.
                (None, None) => continue,
            };
            let models = key.models.as_ref().map(|models| models.iter().cloned().collect());
            if let Some(other) = by_digest.insert(digest, Arc::new(Key { name: name.clone(), models })) {
                return Err(KeyError::Twice { name: name.clone(), other: other.name.clone() });
            }
        }
        Ok(Self { by_digest })
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.by_digest.is_empty()
    }

    /// Who asks with these headers. `open`: without keys anybody may.
    pub(super) fn caller(&self, headers: &HeaderMap, token: &Token, open: bool) -> Result<Caller, ApiError> {
        if !self.any() && open {
            return Ok(Caller { key: None });
        }
        let problem = match bearer(headers) {
            Some(given) => {
                if let Some(key) = self.by_digest.get(&digest(given)) {
                    return Ok(Caller { key: Some(Arc::clone(key)) });
                }
                if token.matches(given) {
                    let fleet = || Arc::new(Key { name: FLEET.to_owned(), models: None });
                    return Ok(Caller { key: self.any().then(fleet) });
                }
                "the API key is wrong"
            }
            None => "this needs an API key (`Authorization: Bearer KEY`)",
        };
        Err(ApiError::new(ErrorCode::Unauthorized, problem))
    }
}

impl Caller {
    /// Whether it may use the model.
    pub(super) fn may_use(&self, model: &str) -> bool {
        let allowed = self.key.as_ref().and_then(|key| key.models.as_ref());
        allowed.is_none_or(|models| models.contains(model))
    }
}

fn of_file(name: &str, path: &Path) -> Result<[u8; 32], KeyError> {
    let text = std::fs::read_to_string(path).map_err(|source| KeyError::Read {
        name: name.to_owned(),
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim();
    if text.len() < TOKEN_LENGTH_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::Malformed { name: name.to_owned(), path: path.to_owned() });
    }
    Ok(digest(text))
}

/// A key is compared by its digest: how long that takes tells nothing of the key.
fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn bytes(digest: &Sha256Digest) -> [u8; 32] {
    *digest.as_bytes()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "alice-0123456789abcdef";

    fn with(key: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {key}").parse().unwrap())])
    }

    fn token() -> Token {
        Token::parse("0123456789abcdef", "test").unwrap()
    }

    fn config(sha256: Option<&str>, file: Option<PathBuf>, models: Option<&[&str]>) -> KeyConfig {
        let models = models.map(|models| models.iter().map(|model| (*model).to_owned()).collect());
        KeyConfig { key_sha256: sha256.map(|text| text.parse().unwrap()), key_file: file, models }
    }

    /// GATE-14
    #[test]
    fn keys_are_told_apart_and_each_has_its_models() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("key");
        std::fs::write(&file, "bob-0123456789abcdef\n").unwrap();
        let alice = hex::encode(digest(ALICE));
        let keys = Keys::load(&BTreeMap::from([
            ("alice".to_owned(), config(Some(&alice), None, Some(&["m"]))),
            ("bob".to_owned(), config(None, Some(file), None)),
        ]))
        .unwrap();
        let name = |headers: &HeaderMap| {
            let caller = keys.caller(headers, &token(), true).ok()?;
            caller.key.map(|key| key.name.clone())
        };
        assert_eq!(name(&with(ALICE)).as_deref(), Some("alice"));
        assert_eq!(name(&with("bob-0123456789abcdef")).as_deref(), Some("bob"));
        assert_eq!(name(&with("0123456789abcdef")).as_deref(), Some(FLEET));
        for wrong in [with("eve"), with(&alice), with(""), HeaderMap::new()] {
            assert_eq!(keys.caller(&wrong, &token(), true).unwrap_err().code, ErrorCode::Unauthorized);
        }
        let alice = keys.caller(&with(ALICE), &token(), true).unwrap();
        assert!(alice.may_use("m") && !alice.may_use("n"));
        let bob = keys.caller(&with("bob-0123456789abcdef"), &token(), true).unwrap();
        assert!(bob.may_use("n"));
    }

    #[test]
    fn without_keys_anybody_may_ask_on_loopback_and_elsewhere_the_token_is_needed() {
        let keys = Keys::default();
        assert!(keys.caller(&HeaderMap::new(), &token(), true).is_ok());
        assert!(keys.caller(&HeaderMap::new(), &token(), false).is_err());
        assert_eq!(keys.caller(&with("0123456789abcdef"), &token(), false), Ok(Caller { key: None }));
    }

    #[test]
    fn a_key_that_cannot_be_used_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let missing = Keys::load(&BTreeMap::from([("a".to_owned(), config(None, Some(temp.path().join("x")), None))]));
        assert!(matches!(missing, Err(KeyError::Read { name, .. }) if name == "a"));
        let short = temp.path().join("short");
        std::fs::write(&short, "short").unwrap();
        let malformed = Keys::load(&BTreeMap::from([("a".to_owned(), config(None, Some(short), None))]));
        assert!(matches!(malformed, Err(KeyError::Malformed { .. })));
        let zeros = "0".repeat(64);
        let same = || config(Some(&zeros), None, None);
        let twice = Keys::load(&BTreeMap::from([("a".to_owned(), same()), ("b".to_owned(), same())]));
        assert!(matches!(twice, Err(KeyError::Twice { .. })));
    }
}
