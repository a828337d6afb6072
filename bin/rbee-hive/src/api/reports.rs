//! `GET /api/v1/reports`: how a period went for this hive and its workers.

use std::sync::Arc;

use axum::extract::State;
use jiff::Timestamp;
use monitoring::report::Tier;
use rbee_api::report::{Report, ReportQuery};
use rbee_runtime::http::{HttpError, Json, Query};

use super::Api;

pub(super) async fn reports(
    State(api): State<Arc<Api>>,
    Query(query): Query<ReportQuery>,
) -> Result<Json<Report>, HttpError> {
    let period = query.period()?;
    let interval = api.started_with.monitor.interval;
    let tier = Tier::Hive(api.name.clone());
    let draft = api.events.journal().draft(tier, period, Timestamp::now(), interval).await;
    Ok(Json(draft.finish()))
}
