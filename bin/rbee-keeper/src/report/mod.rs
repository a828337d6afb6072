//! A report for people: as text for any width of terminal, or as one page of HTML. Pure.

mod charts;
mod html;
mod text;
mod words;

use rbee_api::report::{Availability, DaemonReport, Report};

pub(crate) use html::html;
pub(crate) use text::text;

/// What all daemons and models of a report come to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Totals {
    availability: Option<f64>,
    daemons: u64,
    down_ms: u64,
    restarts: u64,
    health_failures: u64,
    requests: u64,
    errors: u64,
    abandoned: u64,
    tokens: u64,
}

impl Totals {
    fn of(report: &Report) -> Self {
        let mut totals = Self { daemons: report.daemons.len() as u64, ..Self::default() };
        let (mut up_ms, mut wanted_ms) = (0_u64, 0_u64);
        for daemon in &report.daemons {
            let Availability { up_ms: up, starting_ms, down_ms, .. } = daemon.availability;
            up_ms = up_ms.saturating_add(up);
            wanted_ms = wanted_ms.saturating_add(up).saturating_add(starting_ms).saturating_add(down_ms);
            totals.down_ms = totals.down_ms.saturating_add(starting_ms).saturating_add(down_ms);
            totals.restarts = totals.restarts.saturating_add(daemon.restarts.total);
            totals.health_failures = totals.health_failures.saturating_add(daemon.health_failures.total);
        }
        for model in &report.models {
            totals.requests = totals.requests.saturating_add(model.requests);
            totals.errors = totals.errors.saturating_add(model.errors);
            totals.abandoned = totals.abandoned.saturating_add(model.abandoned);
            totals.tokens = totals.tokens.saturating_add(model.prompt_tokens).saturating_add(model.completion_tokens);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = (wanted_ms > 0).then(|| up_ms as f64 / wanted_ms as f64 * 100.0);
        totals.availability = share;
        totals
    }
}

/// How well a daemon did, for colours and order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Unknown,
    Good,
    Shaky,
    Bad,
}

impl Grade {
    fn of(percent: Option<f64>) -> Self {
        match percent {
            None => Self::Unknown,
            Some(percent) if percent >= 99.9 => Self::Good,
            Some(percent) if percent >= 99.0 => Self::Shaky,
            Some(_) => Self::Bad,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Shaky => "shaky",
            Self::Bad => "bad",
        }
    }
}

/// Whether there is more to say of a daemon than its figures.
fn has_trouble(daemon: &DaemonReport) -> bool {
    daemon.restarts.total > 0 || daemon.health_failures.total > 0
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
