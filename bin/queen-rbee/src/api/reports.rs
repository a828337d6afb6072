//! `GET /api/v1/reports`: how a period went for the fleet, from queen's records and those of every hive.
//!
//! ```text
//!   queen's own records ──────────────┐
//!   each hive: asked, so many at once ├─▶ merge ─▶ report; a hive that does not answer in time is named
//!                └─ broken, late ─────┘            and what it had told queen before stands for it
//! ```

use std::time::Duration;

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use monitoring::Journal;
use monitoring::report::{Draft, Tier, merge};
use rbee_api::report::{Period, Report, ReportQuery};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::config::Config;
use rbee_runtime::http::{HttpError, Json, Query};

use super::Api;
use super::ask::ask_hive;
use crate::fleet::View;
use crate::gateway::Tallies;

/// Hives asked at the same time.
const HIVES_AT_ONCE: usize = 8;
/// How long one hive has for its answer.
const HIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer of a hive: that of thousands of workers.
const REPORT_BYTES_MAX: usize = 64 << 20;

/// What queen herself has kept.
#[derive(Debug, Clone)]
pub struct Records {
    /// Where.
    pub journal: Journal,
    /// What is counted, and not written yet.
    pub tallies: Tallies,
    /// How often she samples.
    pub interval: Duration,
    /// The hive of her machine, if she keeps it.
    pub local_hive: Option<String>,
}

impl Records {
    /// Those in `journal` and its history.
    #[must_use]
    pub fn new(journal: &Journal, tallies: &Tallies, config: &Config, has_hive: bool) -> Self {
        let local_hive = has_hive.then(|| config.hive.name.clone());
        let (journal, tallies) = (journal.clone(), tallies.clone());
        Self { journal, tallies, interval: config.monitor.interval, local_hive }
    }

    async fn draft(&self, period: Period, now: Timestamp) -> Draft {
        self.tallies.write();
        let tier = Tier::Queen { local_hive: self.local_hive.clone() };
        self.journal.draft(tier, period, now, self.interval).await
    }
}

pub(super) async fn reports(
    State(api): State<Api>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<Report>, HttpError> {
    let period = query.period()?;
    let view = api.registry.view();
    let hives: Vec<String> = view.hives.keys().cloned().collect();
    let asked = stream::iter(hives)
        .map(|hive| of_hive(&api, &view, hive, period))
        .buffer_unordered(HIVES_AT_ONCE)
        .collect::<Vec<_>>();
    let (mut draft, answers) = tokio::join!(api.records.draft(period, Timestamp::now()), asked);
    for (hive, _) in answers.iter().filter(|(_, answer)| answer.is_err()) {
        if let Some(heard) = view.hives.get(hive).and_then(|hive| Timestamp::from_millisecond(hive.heard_ms).ok()) {
            draft.silent_since(hive, heard);
        }
    }
    Ok(Json(merge(draft.finish(), answers)))
}

/// A hive's own report, or why there is none.
async fn of_hive(api: &Api, view: &View, hive: String, period: Period) -> (String, Result<Report, String>) {
    let answer = async {
        let response = ask_hive(api, view, &hive, "/api/v1/reports", &[("period", period.as_str())]).await?;
        read(response).await
    };
    let answer = match tokio::time::timeout(HIVE_TIMEOUT, answer).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) if error.code == ErrorCode::NotFound => Err("it is of a version without reports".to_owned()),
        Ok(Err(error)) => Err(error.message),
        Err(_) => Err(format!("it did not answer within {} s", HIVE_TIMEOUT.as_secs())),
    };
    (hive, answer)
}

async fn read(mut response: reqwest::Response) -> Result<Report, ApiError> {
    let broken = |why: String| ApiError::new(ErrorCode::Unavailable, format!("its answer is broken: {why}"));
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broken(error.to_string()))? {
        if body.len() + piece.len() > REPORT_BYTES_MAX {
            return Err(broken(format!("longer than {REPORT_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    serde_json::from_slice(&body).map_err(|error| broken(error.to_string()))
}
