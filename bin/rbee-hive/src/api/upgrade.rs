//! `POST /api/v1/hives/{name}/upgrade`, for a hive that stands alone, and what came of it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use http::StatusCode;
use rbee_api::{ApiError, ErrorCode, HiveUpgrade, HiveUpgradeReply};
use rbee_runtime::http::{HttpError, Json, Query};
use serde::Deserialize;

use super::{Api, Owner};

/// Longest time an answer is held back.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Begins it; the answer names it, for [`outcome`].
pub(super) async fn begin(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<HiveUpgradeReply>), HttpError> {
    api.check_hive(Some(&name))?;
    if let Owner::Queen(url) = &api.owner {
        let message = format!("hive `{}` takes its orders from queen; ask her at {url}", api.name);
        return Err(ApiError::new(ErrorCode::ManagedByQueen, message).into());
    }
    let generation = api.upgrades.one_more();
    Ok((StatusCode::ACCEPTED, Json(reply(&api, HiveUpgrade { generation, version: version(), error: None }))))
}

/// Which upgrade.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    generation: u64,
}

/// What came of the upgrade of that number, as soon as it is known. The connection breaks where it comes about.
pub(super) async fn outcome(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<HiveUpgradeReply>, HttpError> {
    api.check_hive(Some(&name))?;
    let mut outcomes = api.upgrades.outcomes();
    let known = outcomes.wait_for(|done| done.as_ref().is_some_and(|done| done.generation >= which.generation));
    let done = tokio::select! {
        known = known => known.ok().and_then(|done| done.clone()),
        () = tokio::time::sleep(WAIT_MAX) => None,
        () = api.shutdown.draining() => None,
    };
    match done {
        Some(HiveUpgrade { error: Some(error), .. }) => {
            let message = format!("{error}; nothing has changed, the hive that ran goes on");
            Err(ApiError::new(ErrorCode::UpgradeFailed, message).into())
        }
        Some(done) => Ok(Json(reply(&api, done))),
        None => Err(ApiError::new(ErrorCode::ShuttingDown, "this process is about to become another").into()),
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn reply(api: &Api, upgrade: HiveUpgrade) -> HiveUpgradeReply {
    HiveUpgradeReply { hive: api.name.clone(), pid: std::process::id(), upgrade }
}
