//! What API keys have used.

use axum::extract::State;
use rbee_api::usage::{UsageQuery, UsageReply};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, Json, Query};

use super::Api;

pub(super) async fn usage(
    State(api): State<Api>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageReply>, HttpError> {
    if let Some(since) = query.since.as_deref().filter(|since| since.parse::<jiff::civil::Date>().is_err()) {
        let message = format!("`{since}` is no day: write it like `2026-11-21`");
        return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("since").into());
    }
    let rows = api.usage.rows(query.since).await;
    let rows = rows.map_err(|error| ApiError::new(ErrorCode::Internal, format!("usage cannot be read: {error}")))?;
    Ok(Json(UsageReply { rows }))
}
