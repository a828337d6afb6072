//! The bearer token that keeper, queen and hive of one machine share.
//!
//! Whoever starts first makes it. Two that start at once agree on one, because the file appears
//! whole, by a hard link, or not at all.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// Shortest token accepted, in characters.
pub const TOKEN_LENGTH_MIN: usize = 16;

/// A bearer token. Its `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

/// Why there is no usable token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The system's random numbers are not to be had.
    #[error("cannot get random bytes for a token")]
    Random {
        /// What the system said.
        #[source]
        source: getrandom::Error,
    },
    /// The file exists but cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Read {
        /// The token file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made.
    #[error("cannot create the token file {}", path.display())]
    Create {
        /// The token file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Other users can read the file, so it protects nothing.
    #[error("the token file {} is readable by others (mode {mode:04o}); chmod 600 it", path.display())]
    TooOpen {
        /// The token file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is no token.
    #[error("{origin} holds no token: it must be at least {TOKEN_LENGTH_MIN} visible ASCII characters")]
    Malformed {
        /// Where the text came from.
        origin: String,
    },
}

impl Token {
    /// Checks `text` for being a token; `origin` says in errors where it came from.
    ///
    /// # Errors
    /// [`TokenError::Malformed`] when it is too short or has other than visible ASCII characters.
    pub fn parse(text: &str, origin: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() < TOKEN_LENGTH_MIN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Malformed { origin: origin.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The token of `RBEE_TOKEN` when given, else the one in the file, if there is one.
    ///
    /// # Errors
    /// As [`Token::read`] and [`Token::parse`].
    pub fn find(from_env: Option<&str>, path: &Path) -> Result<Option<Self>, TokenError> {
        match from_env {
            Some(text) => Self::parse(text, "RBEE_TOKEN").map(Some),
            None => Self::read(path),
        }
    }

    /// As [`Token::find`], but makes the file when there is none.
    ///
    /// # Errors
    /// As [`Token::find`] and [`Token::create`].
    pub fn find_or_create(from_env: Option<&str>, path: &Path) -> Result<Self, TokenError> {
        match Self::find(from_env, path)? {
            Some(token) => Ok(token),
            None => Self::create(path),
        }
    }

    /// Reads a token file; `None` when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read, is readable by others, or holds no token.
    pub fn read(path: &Path) -> Result<Option<Self>, TokenError> {
        let failed = |source| TokenError::Read { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = path.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::TooOpen { path: path.to_owned(), mode });
        }
        Self::parse(&text, &path.display().to_string()).map(Some)
    }

    /// Makes the token file with a fresh token; when another process was first, that one's token is the answer.
    ///
    /// # Errors
    /// When the file cannot be made, or what the other process made cannot be read.
    pub fn create(path: &Path) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Create { path: path.to_owned(), source };
        let token = Self(random_hex::<32>()?);
        let draft = path.with_extension(format!("{}.tmp", random_hex::<8>()?));
        let written = write_private(&draft, &token.0);
        // A link never replaces an existing file, unlike a rename: the first one wins.
        let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
        // Best effort: a draft left behind is private and never read.
        let _ = std::fs::remove_file(&draft);
        match linked {
            Ok(()) => Ok(token),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(path)?.ok_or_else(|| failed(error))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The token's text, for a header or a child's environment.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is this token, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn random_hex<const N: usize>() -> Result<String, TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|source| TokenError::Random { source })?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use super::{Token, TokenError};

    #[test]
    fn many_starters_agree_on_one_token() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("token");
        let tokens: BTreeSet<String> = std::thread::scope(|scope| {
            let starters: Vec<_> =
                (0..16).map(|_| scope.spawn(|| Token::find_or_create(None, &path).unwrap())).collect();
            starters.into_iter().map(|s| s.join().unwrap().expose().to_owned()).collect()
        });
        assert_eq!(tokens.len(), 1);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let left = std::fs::read_dir(temp.path()).unwrap().count();
        assert_eq!(left, 1, "drafts are removed");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("token");
        Token::create(&path).unwrap();
        let token = Token::find(Some("0123456789abcdef"), &path).unwrap().unwrap();
        assert!(token.matches("0123456789abcdef"));
        assert!(!token.matches("0123456789abcdeF"));
        assert!(!token.matches("0123456789abcde"));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn bad_files_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("token");
        assert!(Token::read(&path).unwrap().is_none());
        std::fs::write(&path, "0123456789abcdef").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::TooOpen { mode: 0o644, .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(Token::read(&path).unwrap().is_some());
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Malformed { .. })));
    }
}
