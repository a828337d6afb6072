//! Words of `report`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rbee_api::report::Period;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// How far back from now: hour, day or week
    #[arg(long, value_name = "PERIOD", default_value_t)]
    pub(crate) period: Period,
    /// text for a terminal, json for programs, html for one page with charts [default: text; json with --json]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) format: Option<ReportFormat>,
    /// Write it to this file; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// In what form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
    Html,
}

impl ReportFormat {
    /// Its word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Html => "html",
        }
    }
}
