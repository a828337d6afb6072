//! The HTTP side: OpenAI's paths, health and metrics.
//!
//! ```text
//!   body ─▶ [`body`] typed ─▶ [`request`] checked ─▶ [`service`] admitted ─▶ engine thread
//!   client ◀─ [`stream`] events / one body ◀─ [`answer`] in OpenAI's form ◀─ [`choice`] ◀─┘
//! ```

pub mod answer;
mod body;
pub mod choice;
mod embeddings;
mod handlers;
mod logprobs;
mod relay;
mod request;
pub mod service;
mod status;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use rbee_runtime::http::{AllowedHosts, finish, require_token};
use rbee_runtime::token::Token;

pub use service::Service;

/// Largest request body, bytes.
const BODY_BYTES_MAX: usize = 8 << 20;

/// All paths; with a token, all but `/health` need it.
pub fn router(service: Arc<Service>, token: Option<Token>, hosts: AllowedHosts) -> Router {
    let protected = Router::new()
        .route("/v1/chat/completions", post(handlers::chat))
        .route("/v1/completions", post(handlers::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(status::models))
        .route("/v1/models/{*name}", get(status::model))
        .route("/metrics", get(status::metrics))
        .with_state(service.clone());
    let protected = match token {
        Some(token) => require_token(protected, token),
        None => protected,
    };
    let open = Router::new().route("/health", get(status::health));
    finish(open.with_state(service).merge(protected), hosts, BODY_BYTES_MAX)
}
