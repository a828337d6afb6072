//! Why a process could not be started, in words that say what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use supervision::SpawnErrorKind;

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// A bare name that no directory of `PATH` holds.
    #[error("{program} was not found; looked in {}", places(looked_in))]
    NotOnPath {
        /// The name.
        program: String,
        /// Where.
        looked_in: Vec<PathBuf>,
    },
    /// A file stands there, but it cannot be run.
    #[error("{} {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A system call failed.
    #[error("cannot {step}")]
    Step {
        /// Which one.
        step: String,
        /// Its error.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with a program or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    MissingInterpreter,
    IsDirectory,
    NotDirectory,
    NotExecutable,
    NoPermission,
    WrongFormat,
    HasNul,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "does not exist",
            Self::MissingInterpreter => "exists, but the interpreter or loader it names does not",
            Self::IsDirectory => "is a directory, not a program",
            Self::NotDirectory => "is not a directory",
            Self::NotExecutable => "is not executable",
            Self::NoPermission => "may not be used by this user",
            Self::WrongFormat => "is not a program this machine can run (unknown format or another architecture)",
            Self::HasNul => "holds a NUL byte",
        })
    }
}

impl SpawnError {
    pub(super) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { step: step.into(), source: source.into() }
    }

    /// Whether trying again can help.
    pub(crate) const fn kind(&self) -> SpawnErrorKind {
        match self {
            Self::NotOnPath { .. } | Self::Unusable { .. } => SpawnErrorKind::Unavailable,
            Self::Step { .. } => SpawnErrorKind::Failed,
        }
    }

    /// The whole story in one line, sources included.
    pub(crate) fn full_text(&self) -> String {
        match self {
            Self::Step { step, source } => format!("cannot {step}: {source}"),
            other => other.to_string(),
        }
    }

    /// Explains the errno of a failed `chdir`.
    pub(super) fn from_chdir(dir: PathBuf, source: io::Error) -> Self {
        let problem = match source.raw_os_error() {
            Some(libc::ENOENT) => Problem::Missing,
            Some(libc::ENOTDIR) => Problem::NotDirectory,
            Some(libc::EACCES) => Problem::NoPermission,
            _ => return Self::step(format!("enter the working directory {}", dir.display()), source),
        };
        Self::Unusable { path: dir, problem }
    }

    /// Explains the errno of a failed `execve`.
    pub(super) fn from_exec(path: PathBuf, source: io::Error) -> Self {
        let file = path.metadata();
        let problem = match source.raw_os_error() {
            Some(libc::ENOENT) if file.is_ok() => Problem::MissingInterpreter,
            Some(libc::ENOENT | libc::ENOTDIR) => Problem::Missing,
            Some(libc::ENOEXEC | libc::ELIBBAD) => Problem::WrongFormat,
            Some(libc::EACCES) => match file {
                Ok(file) if file.is_dir() => Problem::IsDirectory,
                Ok(file) if !super::resolve::has_execute_bit(&file) => Problem::NotExecutable,
                _ => Problem::NoPermission,
            },
            _ => return Self::step(format!("execute {}", path.display()), source),
        };
        Self::Unusable { path, problem }
    }
}

fn places(looked_in: &[PathBuf]) -> String {
    if looked_in.is_empty() {
        return "no directory, because PATH is empty".to_owned();
    }
    looked_in.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}
