//! `POST /api/v1/reload`: the configuration is read anew; the answer tells what that did.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use rbee_api::{ApiError, ErrorCode, ReloadReply, ReloadRequest};
use rbee_runtime::http::{HttpError, Json};

use super::Api;
use super::verbs::{WAIT_MS_MAX, parse};
use crate::settle::settled;

pub(super) async fn reload(State(api): State<Arc<Api>>, body: Bytes) -> Result<Json<ReloadReply>, HttpError> {
    let request: ReloadRequest = parse(&body)?;
    if api.pool.view().borrow().stopping {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "this hive is stopping").into());
    }
    let reloaded = crate::reload::reload(&api).await?;
    if request.wait_ms > 0 {
        let patience = Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX));
        settled(api.pool.view(), &reloaded.goal, patience).await.map_err(|mut error| {
            error.message = format!("the new configuration is in force, but {}", error.message);
            error
        })?;
    }
    let view = api.pool.view().borrow().clone();
    Ok(Json(reloaded.reply(&view)))
}
