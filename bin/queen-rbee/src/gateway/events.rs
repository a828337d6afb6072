//! What queen herself writes into a stream: its end, and errors, since a client that has been promised one has its status
//! already.

use bytes::{Bytes, BytesMut};
use rbee_api::{ApiError, ErrorBody, ErrorCode};

use super::upstream::{Answer, AnswerBody};

const DONE: &[u8] = b"data: [DONE]\n\n";

/// The end of a complete answer that was gone on with `resumes` times, after what is `before` it.
pub(super) fn done(before: &[u8], resumes: u32) -> Bytes {
    if before.is_empty() && resumes == 0 {
        return Bytes::from_static(DONE);
    }
    let mut done = BytesMut::from(before);
    if resumes > 0 {
        done.extend_from_slice(format!(": x-rbee-resumed: {resumes}\n\n").as_bytes());
    }
    done.extend_from_slice(DONE);
    done.freeze()
}

/// One event.
pub(super) fn event(json: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(json.len() + 8);
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(json);
    event.extend_from_slice(b"\n\n");
    event.freeze()
}

/// An error of ours.
pub(super) fn error(error: &ApiError, correlation_id: &str) -> Bytes {
    let body = error.to_body(Some(correlation_id));
    let json = serde_json::to_string(&body).unwrap_or_else(|_| r#"{"error":{"code":"upstream_broken"}}"#.to_owned());
    event(json.as_bytes())
}

/// A worker's answer that is no stream.
pub(super) fn refusal(answer: &Answer, correlation_id: &str) -> Bytes {
    let body = match &answer.body {
        AnswerBody::Whole(bytes) | AnswerBody::Large(bytes, _) => &bytes[..],
        AnswerBody::Events(_) => &[],
    };
    match serde_json::from_slice::<serde_json::Value>(body) {
        // On one line.
        Ok(json) if json.get("error").is_some() => event(json.to_string().as_bytes()),
        _ => {
            let message = format!("the worker answered with status {} and no stream", answer.status.as_u16());
            error(&ApiError::new(ErrorCode::UpstreamBroken, message), correlation_id)
        }
    }
}

/// What is said when queen is in a hurry.
pub(super) fn interrupted() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "queen was told to stop at once in the middle of this answer")
}

/// Whether another worker may do better.
pub(super) fn is_the_workers_fault(error: &[u8]) -> bool {
    let Ok(ErrorBody { error }) = serde_json::from_slice(error) else { return false };
    matches!(
        error.code,
        ErrorCode::ShuttingDown | ErrorCode::WorkerFailed | ErrorCode::Unavailable | ErrorCode::Internal
    )
}
