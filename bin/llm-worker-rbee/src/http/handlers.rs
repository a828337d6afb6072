//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rbee_api::openai::{ChatRequest, CompletionRequest};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, current_correlation_id};

use super::answer::{Answer, Kind};
use super::request::{self, Checked, Source};
use super::{Service, body, stream};

pub(super) async fn chat(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let request: ChatRequest = body::parse(&body::read(http).await?)?;
    service.check_model(&request.model)?;
    let (source, checked) = request::chat(request)?;
    answer(service, Kind::Chat, source, checked).await
}

pub(super) async fn completions(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let request: CompletionRequest = body::parse(&body::read(http).await?)?;
    service.check_model(&request.model)?;
    let (source, checked) = request::completion(request)?;
    answer(service, Kind::Text, source, checked).await
}

async fn answer(service: Arc<Service>, kind: Kind, source: Source, checked: Checked) -> Result<Response, HttpError> {
    let place = service.admit()?;
    let of_task = service.clone();
    let tokens = tokio::task::spawn_blocking(move || of_task.tokens(source)).await;
    let tokens =
        tokens.map_err(|error| ApiError::new(ErrorCode::Internal, format!("tokenizing failed: {error}")))??;
    let answer = Answer::new(kind, &service.model_name);
    tracing::debug!(prompt_tokens = tokens.len(), stream = checked.stream, "a request");
    let receiver = service.submit(tokens, &checked, place)?;
    if checked.stream {
        Ok(stream::events(answer, receiver, checked.include_usage, current_correlation_id()))
    } else {
        stream::whole(answer, receiver).await
    }
}
