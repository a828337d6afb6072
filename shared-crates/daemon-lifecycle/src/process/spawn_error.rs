//! Why a process could not be started, in words that say what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use supervision::SpawnErrorKind;

use super::format;

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
    /// Arguments and environment are more than the kernel takes.
    #[error(
        "its arguments and environment are too big: {bytes} bytes together, and no single one may have more than 131,072"
    )]
    TooBig {
        /// All of them.
        bytes: usize,
    },
    /// A limit of the unit cannot be set.
    #[error("{limit} is refused{}", ceiling(*may))]
    LimitRefused {
        /// Its name and value.
        limit: String,
        /// The most that is allowed, where there is such a number.
        may: Option<u64>,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The new process's record cannot be written.
    #[error("cannot write {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    Missing,
    MissingInterpreter(Option<PathBuf>),
    NoInterpreterLine,
    OtherProcessor { built_for: String },
    IsDirectory,
    NotDirectory,
    NotExecutable,
    NoPermission,
    WrongFormat,
    HasNul,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::MissingInterpreter(Some(named)) => {
                return write!(
                    f,
                    "exists, but what it names as its interpreter or loader, {}, does not",
                    named.display()
                );
            }
            Self::OtherProcessor { built_for } => {
                return write!(f, "is built for another processor ({built_for}; this is {})", std::env::consts::ARCH);
            }
            Self::Missing => "does not exist",
            Self::MissingInterpreter(None) => "exists, but the interpreter or loader it names does not",
            Self::NoInterpreterLine => {
                "is a script without a first line that names its interpreter (such as #!/bin/sh)"
            }
            Self::IsDirectory => "is a directory, not a program",
            Self::NotDirectory => "is not a directory",
            Self::NotExecutable => "is not executable",
            Self::NoPermission => "may not be used by this user",
            Self::WrongFormat => "is not a program this machine can run (unknown format)",
            Self::HasNul => "holds a NUL byte",
        };
        f.write_str(text)
    }
}

impl SpawnError {
    pub(super) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Step { step: step.into(), source: source.into() }
    }

    /// Whether trying again can help.
    pub(crate) const fn kind(&self) -> SpawnErrorKind {
        match self {
            Self::NotOnPath { .. } | Self::Unusable { .. } | Self::TooBig { .. } | Self::LimitRefused { .. } => {
                SpawnErrorKind::Unavailable
            }
            Self::Record { .. } | Self::Step { .. } => SpawnErrorKind::Failed,
        }
    }

    /// The whole story in one line, sources included.
    pub(crate) fn full_text(&self) -> String {
        match self {
            Self::Step { source, .. } | Self::Record { source, .. } | Self::LimitRefused { source, .. } => {
                format!("{self}: {source}")
            }
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
            Some(libc::ENOENT) if file.is_ok() => Problem::MissingInterpreter(format::interpreter_of(&path)),
            Some(libc::ENOENT | libc::ENOTDIR) => Problem::Missing,
            Some(libc::ENOEXEC | libc::ELIBBAD) => format::problem_of(&path),
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

fn ceiling(may: Option<u64>) -> String {
    may.map(|may| format!("; this program may go up to {may}")).unwrap_or_default()
}

fn places(looked_in: &[PathBuf]) -> String {
    if looked_in.is_empty() {
        return "no directory, because PATH is empty".to_owned();
    }
    looked_in.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ")
}
