//! Why the worker does not serve, with exit code and hint.

use std::path::PathBuf;

use rbee_runtime::listen::ListenError;
use rbee_runtime::token::TokenError;

use crate::engine::EngineError;
use crate::template::TemplateError;

/// Why the worker does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the model file {}", path.display())]
    ModelFile {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The state folder cannot be used.
    #[error("cannot use the state folder {}", path.display())]
    StateDir {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// RBEE_TOKEN is no token.
    #[error("RBEE_TOKEN is not usable")]
    Token {
        /// Why.
        #[source]
        source: TokenError,
    },
    /// There is no socket to listen on.
    #[error("cannot listen")]
    Listen {
        /// Why.
        #[source]
        source: ListenError,
    },
    /// The engine did not start.
    #[error("the engine did not start")]
    Engine {
        /// Why.
        #[source]
        source: EngineError,
    },
    /// The model's chat template is broken.
    #[error("the model file is not usable")]
    Template {
        /// Why.
        #[source]
        source: TemplateError,
    },
    /// The engine's thread ended by itself.
    #[error("the inference engine has ended unexpectedly")]
    EngineGone,
    /// The system refused something every process needs.
    #[error("the system refuses {what}")]
    System {
        /// What.
        what: &'static str,
        /// What it says.
        #[source]
        source: std::io::Error,
    },
}

impl ServeError {
    /// Exit code: 78 where the caller must change something, 69 where the service cannot be had, 1 where it broke.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ModelFile { .. } | Self::StateDir { .. } | Self::Token { .. } => 78,
            Self::Listen { source: ListenError::Unprotected { .. } } => 78,
            Self::Listen { .. } | Self::Engine { .. } | Self::Template { .. } => 69,
            Self::EngineGone | Self::System { .. } => 1,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::ModelFile { .. } => {
                Some("give the path of a GGUF file with --model-path; `rbee-keeper model pull NAME` fetches one")
            }
            Self::StateDir { .. } => Some("give a folder this user may write with --state-dir, or leave it out"),
            Self::Token { .. } => Some("unset RBEE_TOKEN, or set it to at least 16 visible ASCII characters"),
            Self::Listen { source: ListenError::Taken { .. } } => Some("stop that program, or give another --listen"),
            Self::Listen { source } => source.hint(),
            Self::Engine { source: EngineError::Context { .. } } => Some("give fewer --slots or a smaller --context"),
            Self::Engine { .. } | Self::Template { .. } => Some("check that the file is a whole GGUF file"),
            Self::EngineGone | Self::System { .. } => None,
        }
    }
}
