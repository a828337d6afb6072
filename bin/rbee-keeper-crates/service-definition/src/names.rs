//! What may stand in a service's file: checked before anything is written.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Definition;

const NAME_BYTES_MAX: usize = 64;
const USER_BYTES_MAX: usize = 64;

/// What units begin with: letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName(String);

impl Default for ServiceName {
    fn default() -> Self {
        Self("rbee".to_owned())
    }
}

impl ServiceName {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= NAME_BYTES_MAX && text.chars().all(is_sound) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Refusal::Name { name: text.to_owned() })
        }
    }
}

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No name for a service.
    #[error(
        "{name:?} is no service name: letters, digits, `.`, `_` and `-` make one, 64 at most, a letter or digit first"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// No name of a user.
    #[error("{name:?} is no user's name")]
    User {
        /// What was given.
        name: String,
    },
    /// No name of a variable.
    #[error("{name:?} is no variable's name")]
    Variable {
        /// What was given.
        name: String,
    },
    /// A text with control characters.
    #[error("{what} must be one line without control characters, not {text:?}")]
    Text {
        /// What it is for.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// A path that is relative or no text.
    #[error("{} must be an absolute path that is text", path.display().to_string().escape_debug())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A program that systemd takes no path of.
    #[error("systemd starts no program whose path has quotes or backslashes: {}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
    },
    /// A value that the manager's file cannot say.
    #[error("{manager} has no way to say {text:?}")]
    Unspeakable {
        /// Which manager.
        manager: &'static str,
        /// The value.
        text: String,
    },
}

pub(crate) fn check(definition: &Definition) -> Result<(), Refusal> {
    if let Some(name) = &definition.run_as {
        let is_sound = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '$' | '\\' | '@');
        let starts_well = name.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if !starts_well || name.len() > USER_BYTES_MAX || !name.chars().all(is_sound) {
            return Err(Refusal::User { name: name.clone() });
        }
    }
    line("the description", &definition.description)?;
    for name in definition.env.keys() {
        let is_sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(is_sound) {
            return Err(Refusal::Variable { name: name.clone() });
        }
    }
    definition.env.values().try_for_each(|value| line("a variable", value))?;
    definition.args.iter().try_for_each(|arg| line("an argument", arg))?;
    definition.after_end.iter().flatten().try_for_each(|word| line("a command", word))?;
    path(&definition.program)?;
    path(&definition.home)?;
    definition.writable.iter().try_for_each(|folder| path(folder))
}

fn line(what: &'static str, text: &str) -> Result<(), Refusal> {
    if text.chars().any(char::is_control) { Err(Refusal::Text { what, text: text.to_owned() }) } else { Ok(()) }
}

fn path(path: &Path) -> Result<(), Refusal> {
    let is_text = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
    if is_text && path.is_absolute() { Ok(()) } else { Err(Refusal::Path { path: path.to_owned() }) }
}
