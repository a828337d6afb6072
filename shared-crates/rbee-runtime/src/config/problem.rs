//! What is wrong in a configuration, said so that it can be repaired: key, file, line, what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file says things that make no sense.
    #[error("{}", render(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of lines; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; absent when the problem is in no line.
    pub line: Option<usize>,
    /// The key at fault, such as `worker.api.ports`; empty for syntax errors.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to write instead, where we can tell.
    pub hint: Option<String>,
}

impl Problem {
    /// The problem as one line: `MESSAGE at FILE:LINE; HINT`.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let place = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("{} at {file}{place}{hint}", self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render("rbee.toml"))
    }
}

fn render(path: &std::path::Path, problems: &[Problem]) -> String {
    let name = path.display().to_string();
    problems.iter().map(|problem| problem.render(&name)).collect::<Vec<_>>().join("\n")
}

/// "did you mean `x`?" when one of `known` is near to `given`.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(given, known).map(|name| format!("did you mean `{name}`?"))
}

/// The known name that is nearest, if it is near enough to be a slip.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_find_their_name_and_strangers_do_not() {
        let known = ["model", "command", "replicas", "env"];
        for (given, expected) in [
            ("modle", Some("model")),
            ("replica", Some("replicas")),
            ("comand", Some("command")),
            ("Env", Some("env")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
    }
}
