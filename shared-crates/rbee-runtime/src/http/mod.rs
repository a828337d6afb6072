//! HTTP manners that all our servers share: one error body, one request id, who may ask what.
//!
//! ```text
//!   request ─▶ correlation ─▶ host check ─▶ [bearer] ─▶ body limit ─▶ handler
//!   answer  ◀─ X-Correlation-Id in header, log span and error body ──────┘
//! ```
//!
//! [`finish`] puts the outer layers around a router; [`require_token`] goes around the protected part of it.

mod auth;
mod connections;
mod correlation;
mod error;
mod extract;
mod host;
mod serve;

pub use auth::require_token;
pub use connections::ConnectionLimits;
pub use correlation::{CorrelationId, current_correlation_id};
pub use error::HttpError;
pub use extract::{Json, Query};
pub use host::AllowedHosts;
pub use serve::{Door, Drained, serve, serve_until_closed};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use rbee_api::{ApiError, ErrorCode};

/// Puts the layers every server has around a finished router: JSON for unknown paths and methods, the limit
/// of bodies in bytes, the Host check and the correlation id.
pub fn finish(router: Router, hosts: AllowedHosts, body_bytes_max: usize) -> Router {
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // One layer: each has its own boxes for each request, and copies those of all below it.
        .layer((middleware::from_fn_with_state(hosts, enter), DefaultBodyLimit::max(body_bytes_max)))
}

async fn enter(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    correlation::attach(request, |request| host::check(hosts, request, next)).await
}

async fn unknown_path(uri: http::Uri) -> HttpError {
    ApiError::new(ErrorCode::NotFound, format!("there is nothing at {}", uri.path())).into()
}

async fn unknown_method(method: http::Method, uri: http::Uri) -> HttpError {
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{} does not take {method}", uri.path())).into()
}

#[cfg(test)]
mod tests;
