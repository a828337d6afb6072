//! How a period went: `GET /api/v1/reports?period=hour|day|week` of queen and of a hive.
//!
//! What is not known is said to be unknown (`None`, `unknown_ms`), never taken for good or for zero.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorCode};

/// The time that a report is about; it ends now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The last hour.
    Hour,
    /// The last 24 hours.
    #[default]
    Day,
    /// The last 7 days.
    Week,
}

impl Period {
    /// Every period, the shortest first.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// The word of the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// How long it is.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        })
    }

    /// How long one point of a chart is: 60, 96 or 84 points a period.
    #[must_use]
    pub const fn step(self) -> Duration {
        Duration::from_secs(match self {
            Self::Hour => 60,
            Self::Day => 900,
            Self::Week => 7_200,
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no period: use hour, day or week")]
pub struct UnknownPeriod {
    /// What was given.
    pub word: String,
}

impl FromStr for Period {
    type Err = UnknownPeriod;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|period| period.as_str() == word)
            .ok_or_else(|| UnknownPeriod { word: word.to_owned() })
    }
}

/// Query of `reports`, as it comes: the period is read by [`ReportQuery::period`], so that a wrong one is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    /// `hour`, `day` or `week`; absent: `day`.
    pub period: Option<String>,
}

impl ReportQuery {
    /// The period asked for.
    ///
    /// # Errors
    /// `invalid_parameter` where there is no such period.
    pub fn period(&self) -> Result<Period, ApiError> {
        let Some(word) = &self.period else { return Ok(Period::default()) };
        word.parse().map_err(|unknown: UnknownPeriod| {
            ApiError::new(ErrorCode::InvalidParameter, unknown.to_string()).with_param("period")
        })
    }
}

/// How a period went, for one hive or for the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which period.
    pub period: Period,
    /// Its beginning.
    pub from: Timestamp,
    /// Its end: when the report was made.
    pub to: Timestamp,
    /// Length of one point of every series.
    pub step_s: u64,
    /// Whose records this is made of: `queen`, and names of hives.
    pub sources: Vec<String>,
    /// Hives whose records are not in it, and why.
    pub missing: Vec<Missing>,
    /// What is to be known about the records themselves: lost, set aside, a clock that jumped.
    pub notes: Vec<String>,
    /// Every daemon that the records tell of, by hive and name; a hive's own daemon first.
    pub daemons: Vec<DaemonReport>,
    /// Every model that was asked for, by name. Queen's alone: requests do not pass hives.
    pub models: Vec<ModelReport>,
}

/// A hive whose records are not in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name.
    pub hive: String,
    /// Why: it did not answer, it is too old, …
    pub reason: String,
}

/// How one daemon did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DaemonReport {
    /// On this hive; absent: queen's own machine (queen herself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<String>,
    /// `queen`, `hive`, or `NAME/REPLICA`.
    pub name: String,
    /// How much of the time it was there.
    pub availability: Availability,
    /// Every time it was started again, or gave up.
    pub restarts: Restarts,
    /// CPU: share of one core in percent, average and peak.
    pub cpu_percent: Option<Usage>,
    /// Resident memory of all its processes; average and peak.
    pub memory_bytes: Option<Usage>,
    /// The longest starts, the slowest first; at most [`SLOWEST_STARTS_MAX`].
    pub slowest_starts: Vec<SlowStart>,
    /// Times that a health probe failed it.
    pub health_failures: HealthFailures,
    /// Its course, a value a step from `from` on.
    pub series: Series,
}

/// How much of the period a daemon was there. The five times are the period's length together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// `up / (up + starting + down)` in percent; absent where none of it is known.
    pub percent: Option<f64>,
    /// It ran and was ready.
    pub up_ms: u64,
    /// It was on its way up.
    pub starting_ms: u64,
    /// It was wanted, and was not there.
    pub down_ms: u64,
    /// It was stopped by order: nobody missed it.
    pub off_ms: u64,
    /// Nobody looked: before the first event, or while its supervisor was away.
    pub unknown_ms: u64,
}

/// Average and highest value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Over all samples, each weighted by the time it stands for.
    pub average: f64,
    /// The highest sample.
    pub peak: f64,
    /// When that was.
    pub peak_at: Timestamp,
}

/// Times that a daemon was started again or gave up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// All of them.
    pub total: u64,
    /// How often for each cause, the most frequent first; at most [`CAUSES_MAX`].
    pub causes: Vec<CauseCount>,
    /// The newest ones, the newest first; at most [`RESTARTS_MAX`].
    pub newest: Vec<Restart>,
}

/// One cause and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseCount {
    /// A clause after "because".
    pub cause: String,
    /// Times.
    pub count: u64,
}

/// One restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When it fell.
    pub at: Timestamp,
    /// A clause after "because".
    pub cause: String,
    /// It was not started again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gave_up: bool,
}

/// One start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowStart {
    /// When it was spawned.
    pub at: Timestamp,
    /// Until it was ready.
    pub took_ms: u64,
    /// Number of that run.
    pub incarnation: Option<u64>,
}

/// Failed health probes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthFailures {
    /// All of them.
    pub total: u64,
    /// The newest ones, the newest first; at most [`HEALTH_FAILURES_MAX`].
    pub newest: Vec<HealthFailure>,
}

/// One failed health probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthFailure {
    /// When.
    pub at: Timestamp,
    /// What the probe found.
    pub reason: String,
}

/// A daemon's course for charts: at most 100 values each, all of one length; `None`: not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Share of the known and wanted time of the step that it was up, 0 to 1.
    pub up: Vec<Option<f32>>,
    /// Whether it was stopped by order for the whole of the known time of the step.
    pub off: Vec<bool>,
    /// Average share of one core in percent.
    pub cpu_percent: Vec<Option<f32>>,
    /// Average memory.
    pub memory_bytes: Vec<Option<u64>>,
}

/// How the requests for one model went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Requests answered, in whatever way.
    pub requests: u64,
    /// Those that were not answered as they should.
    pub errors: u64,
    /// Those whose clients went away before the end.
    pub abandoned: u64,
    /// From a request to the end of its answer; absent where none was answered.
    pub latency_ms: Option<Quantiles>,
    /// From a request to the first piece of its answer.
    pub first_token_ms: Option<Quantiles>,
    /// Tokens read, as far as the workers say it.
    pub prompt_tokens: u64,
    /// Tokens generated, as far as the workers say it.
    pub completion_tokens: u64,
    /// Its course, a value a step.
    pub series: ModelSeries,
}

/// Half, 95 and 99 of a hundred took no longer. Read from a histogram: at most a sixteenth too high, never too low.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// A model's course for charts. Counts are kept by the minute, older ones by the hour; where that is longer than the
/// report's step, a count is shared out over the steps it covers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelSeries {
    /// Requests.
    pub requests: Vec<f32>,
    /// Errors.
    pub errors: Vec<f32>,
    /// 95 of 100 took no longer.
    pub p95_ms: Vec<Option<f32>>,
}

/// Causes told of a daemon.
pub const CAUSES_MAX: usize = 10;
/// Restarts told of a daemon.
pub const RESTARTS_MAX: usize = 20;
/// Starts told of a daemon.
pub const SLOWEST_STARTS_MAX: usize = 3;
/// Health failures told of a daemon.
pub const HEALTH_FAILURES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_round_trip_and_make_no_more_than_a_hundred_points() {
        for period in Period::ALL {
            assert_eq!(period.as_str().parse::<Period>().unwrap(), period);
            assert_eq!(serde_json::to_string(&period).unwrap(), format!("\"{period}\""));
            let points = period.duration().as_secs() / period.step().as_secs();
            assert!((50..=100).contains(&points), "{period}: {points}");
            assert_eq!(points * period.step().as_secs(), period.duration().as_secs());
        }
    }

    /// REPT-04
    #[test]
    fn an_unknown_period_is_an_invalid_parameter_that_names_the_known_ones() {
        for word in ["month", "", "Day", "1d"] {
            let error = ReportQuery { period: Some(word.to_owned()) }.period().unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (ErrorCode::InvalidParameter, Some("period")));
            assert!(error.message.contains("hour, day or week"), "{}", error.message);
        }
        assert_eq!(ReportQuery::default().period(), Ok(Period::Day));
    }
}
