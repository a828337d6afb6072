//! A question that only the hive itself can answer, passed on to it.

use rbee_api::{ApiError, CORRELATION_ID_HEADER, ErrorBody, ErrorCode};
use rbee_runtime::http::current_correlation_id;
use serde::Serialize;

use super::Api;
use crate::fleet::View;

/// Puts a GET to a hive, with our token and the request's own id.
///
/// # Errors
/// [`ErrorCode::Unavailable`] when it does not answer, else its own words.
pub(super) async fn ask_hive(
    api: &Api,
    view: &View,
    hive: &str,
    path: &str,
    query: &impl Serialize,
) -> Result<reqwest::Response, ApiError> {
    let hive_url = view.desired.hives.get(hive).map(|record| record.url.as_str()).unwrap_or_default();
    let url = format!("{}{path}", hive_url.trim_end_matches('/'));
    let mut request = api.http.get(url).query(query).bearer_auth(api.token.expose());
    if let Some(id) = current_correlation_id() {
        request = request.header(CORRELATION_ID_HEADER, id);
    }
    let response = request.send().await.map_err(|error| {
        tracing::warn!(hive, error = &error as &dyn std::error::Error, "a hive does not answer");
        let message = format!("hive {hive} does not answer at {hive_url}: it cannot be asked now");
        ApiError::new(ErrorCode::Unavailable, message)
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    Err(match response.json::<ErrorBody>().await {
        Ok(body) => ApiError { param: body.error.param, ..ApiError::new(body.error.code, body.error.message) },
        Err(_) => ApiError::new(ErrorCode::Unavailable, format!("hive {hive} answered {status}, but not as rbee does")),
    })
}
