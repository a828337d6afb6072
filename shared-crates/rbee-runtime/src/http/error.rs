//! From our errors to HTTP answers, in one place.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use rbee_api::{ApiError, ErrorCode};

use super::current_correlation_id;

/// What handlers return when they fail: `Result<_, HttpError>` with `?` on [`ApiError`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError(pub ApiError);

impl From<ApiError> for HttpError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let body = error.to_body(current_correlation_id().as_deref());
        let mut response = (error.code.status(), axum::Json(body)).into_response();
        if let Some(seconds) = error.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if error.code.status().is_server_error() {
            tracing::warn!(code = ?error.code, message = error.message, "answered with an error");
        }
        response
    }
}

impl From<JsonRejection> for HttpError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::BodyTooLarge,
            _ => ErrorCode::InvalidRequest,
        };
        let message = match &rejection {
            _ if code == ErrorCode::BodyTooLarge => "the body is larger than this server takes".to_owned(),
            JsonRejection::MissingJsonContentType(_) => {
                "the body must be JSON, sent with `Content-Type: application/json`".to_owned()
            }
            other => other.body_text(),
        };
        Self(ApiError::new(code, message))
    }
}

impl From<QueryRejection> for HttpError {
    fn from(rejection: QueryRejection) -> Self {
        Self(ApiError::new(ErrorCode::InvalidParameter, rejection.body_text()))
    }
}
