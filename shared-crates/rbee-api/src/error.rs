//! The one error body of every HTTP answer, in the field's format, with stable codes.

use http::StatusCode;
use serde::{Deserialize, Serialize};

/// Stable machine-readable codes; each has its HTTP status and its OpenAI `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body is no JSON, or not of the form asked for.
    InvalidRequest,
    /// A parameter is out of its range.
    InvalidParameter,
    /// A parameter this server does not know how to honour.
    UnsupportedParameter,
    /// A parameter nobody knows.
    UnknownParameter,
    /// Prompt and answer do not fit the context.
    ContextLengthExceeded,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// No or wrong bearer token.
    Unauthorized,
    /// The Host header names another machine.
    ForbiddenHost,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// No worker serves that model.
    ModelNotFound,
    /// No worker of that name.
    WorkerNotFound,
    /// No hive of that name.
    HiveNotFound,
    /// This hive takes its orders from queen.
    ManagedByQueen,
    /// The same thing exists already, or another owner holds it.
    Conflict,
    /// The configuration makes no sense; nothing changed.
    InvalidConfig,
    /// Too many requests wait already.
    QueueFull,
    /// The worker ended or failed to get ready.
    WorkerFailed,
    /// Nothing can serve the request now; try again.
    Unavailable,
    /// The connection to a worker broke in the middle of an answer.
    UpstreamBroken,
    /// It took longer than allowed.
    Timeout,
    /// An upgrade did not come about; what ran goes on.
    UpgradeFailed,
    /// This process is on its way down.
    ShuttingDown,
    /// Our fault.
    Internal,
}

impl ErrorCode {
    /// HTTP status that goes with the code.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidRequest
            | Self::InvalidParameter
            | Self::UnsupportedParameter
            | Self::UnknownParameter
            | Self::InvalidConfig
            | Self::ContextLengthExceeded => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForbiddenHost => StatusCode::FORBIDDEN,
            Self::NotFound | Self::ModelNotFound | Self::WorkerNotFound | Self::HiveNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict | Self::ManagedByQueen => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::QueueFull => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::UpstreamBroken | Self::WorkerFailed | Self::UpgradeFailed => StatusCode::BAD_GATEWAY,
            Self::Unavailable | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// OpenAI's coarse `type`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Unauthorized => "authentication_error",
            Self::ForbiddenHost => "permission_error",
            Self::QueueFull => "rate_limit_error",
            Self::UpstreamBroken
            | Self::WorkerFailed
            | Self::UpgradeFailed
            | Self::Unavailable
            | Self::Timeout
            | Self::ShuttingDown
            | Self::Internal => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Stable code.
    pub code: ErrorCode,
    /// What went wrong, why, and what to do next.
    pub message: String,
    /// The parameter at fault, if it is one.
    pub param: Option<String>,
    /// After how many seconds to try again (`Retry-After`), where that makes sense.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// An error with nothing but code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retry_after_s: None }
    }

    /// Names the parameter at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The body to send.
    #[must_use]
    pub fn to_body(&self, correlation_id: Option<&str>) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                code: self.code,
                message: self.message.clone(),
                kind: self.code.kind().to_owned(),
                param: self.param.clone(),
                correlation_id: correlation_id.map(str::to_owned),
            },
        }
    }
}

/// `{"error": {…}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The only field.
    pub error: ErrorDetail,
}

/// What stands inside `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// Stable code.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// OpenAI's coarse type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter at fault.
    pub param: Option<String>,
    /// The request's id, to be found in the logs of every tier.
    pub correlation_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_contracts_shape() {
        let body = ApiError::new(ErrorCode::ModelNotFound, "no model `x`").with_param("model").to_body(Some("c1"));
        assert_eq!(
            serde_json::to_value(body).unwrap(),
            serde_json::json!({"error": {"code": "model_not_found", "message": "no model `x`",
                "type": "invalid_request_error", "param": "model", "correlation_id": "c1"}})
        );
    }
}
