//! Logs to stderr through a writer that never blocks: when nobody reads our pipe, lines are dropped
//! and the daemon goes on.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines kept for a slow reader before new ones are dropped. Their places are memory from the start: 32 bytes each.
const LINES_WAITING_MAX: usize = 4_096;

/// What is logged and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Filter used when `RUST_LOG` says nothing, such as `info`.
    pub default_filter: String,
    /// `RUST_LOG`, from [`crate::env::Env`].
    pub rust_log: Option<String>,
    /// One JSON object a line.
    pub json: bool,
    /// Never colour, even on a terminal.
    pub no_color: bool,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// `RUST_LOG` or the default filter is not understood.
    #[error("bad log filter `{filter}`")]
    Filter {
        /// The filter's text.
        filter: String,
        /// What is wrong in it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a logger already.
    #[error("logging was set up twice")]
    Twice {
        /// The subscriber's own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Keep it until the end of `main`: dropping it writes what still waits.
#[must_use = "dropping the guard stops logging"]
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "held for its Drop")] WorkerGuard);

/// Sets up the process's logging.
///
/// # Errors
/// A bad filter, or a second call.
pub fn init(options: &Options) -> Result<LogGuard, LoggingError> {
    let filter = options.rust_log.as_deref().unwrap_or(&options.default_filter);
    let filter =
        EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let color = std::io::stderr().is_terminal() && !options.no_color;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_WAITING_MAX).finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(color);
    let done = if options.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    done.map_err(|source| LoggingError::Twice { source })?;
    Ok(LogGuard(guard))
}

/// The filter for `-v` counted `verbosity` times, over a program's usual `quiet` level.
#[must_use]
pub fn filter_for(quiet: &str, verbosity: u8) -> String {
    match verbosity {
        0 => quiet.to_owned(),
        1 => "info".to_owned(),
        2 => "debug".to_owned(),
        _ => "trace".to_owned(),
    }
}
