//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rbee_api::openai::{ChatRequest, CompletionRequest};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, current_correlation_id};

use super::answer::{Answer, Kind};
use super::request::{self, Checked, Source};
use super::{Service, body, relay, stream};

pub(super) async fn chat(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let told = relay::is_wanted(http.headers());
    let request: ChatRequest = body::parse(&body::read(http).await?)?;
    service.check_model(&request.model)?;
    let (source, checked) = request::chat(request)?;
    answer(service, Kind::Chat, source, checked, told).await
}

pub(super) async fn completions(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let told = relay::is_wanted(http.headers());
    let request: CompletionRequest = body::parse(&body::read(http).await?)?;
    service.check_model(&request.model)?;
    let (source, checked) = request::completion(request)?;
    answer(service, Kind::Text, source, checked, told).await
}

async fn answer(
    service: Arc<Service>,
    kind: Kind,
    source: Source,
    checked: Checked,
    told: bool,
) -> Result<Response, HttpError> {
    let place = service.admit()?;
    let of_task = service.clone();
    let tokens = tokio::task::spawn_blocking(move || of_task.tokens(source)).await;
    let tokens =
        tokens.map_err(|error| ApiError::new(ErrorCode::Internal, format!("tokenizing failed: {error}")))??;
    let mut answer = Answer::new(kind, &service.model_name);
    if let Some(resume) = &checked.resume {
        answer = answer.known_as(&resume.id, resume.created);
    }
    tracing::debug!(prompt_tokens = tokens.len(), stream = checked.stream, "a request");
    let begun = checked.resume.as_ref().and_then(|resume| resume.choices.first());
    let resumed = relay::Resumed::new(begun, told && checked.stream);
    let receiver = service.submit(tokens, &checked, &resumed, place)?;
    if checked.stream {
        Ok(stream::events(answer, receiver, resumed.place, checked.include_usage, current_correlation_id()))
    } else {
        stream::whole(answer, receiver).await
    }
}
