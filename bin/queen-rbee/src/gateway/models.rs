//! `/v1/models`: the models that a caller may use.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use rbee_api::openai::{Model, ModelList};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::Json;

use super::keys::Caller;
use super::{Gateway, refusal};
use crate::orders::suggest;

pub(super) async fn list(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let caller = match gateway.caller(&headers) {
        Ok(caller) => caller,
        Err(error) => return refusal(error),
    };
    let view = gateway.registry.view();
    let models = view.routes.models.keys().filter(|name| caller.may_use(name));
    let models = models.map(|name| Model::new(name, gateway.started_s));
    Json(ModelList::new(models.collect())).into_response()
}

pub(super) async fn one(State(gateway): State<Gateway>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let known = gateway.caller(&headers).and_then(|caller| known(&gateway, &caller, &id));
    match known {
        Ok(()) => Json(Model::new(id, gateway.started_s)).into_response(),
        Err(error) => refusal(error),
    }
}

/// A model that a caller may not use does not exist for it.
pub(super) fn known(gateway: &Gateway, caller: &Caller, model: &str) -> Result<(), ApiError> {
    let view = gateway.registry.view();
    if view.routes.models.contains_key(model) && caller.may_use(model) {
        return Ok(());
    }
    let known = view.routes.models.keys().filter(|name| caller.may_use(name));
    let message = format!("there is no model `{model}`{}", suggest(model, known));
    Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model"))
}
