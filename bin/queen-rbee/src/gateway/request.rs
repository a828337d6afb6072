//! A client's request: its body whole and bounded, and as much of its meaning as routing needs.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use rbee_api::{ApiError, ErrorCode};
use serde::Deserialize;

/// How long and how much of a body that is too large is read and thrown away: a client that still writes does not
/// see our answer.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What routing needs to know.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The model's name.
    pub(super) model: String,
    /// Whether the answer shall be a stream of events.
    pub(super) stream: bool,
}

/// Reads the body, `bytes_max` at most.
pub(super) async fn read_body(headers: &HeaderMap, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::with_capacity(declared.unwrap_or(0).min(bytes_max));
    let mut too_large = declared.is_some_and(|length| length > bytes_max);
    while !too_large && let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}")))?;
        too_large = whole.len() + piece.len() > bytes_max;
        if !too_large {
            whole.extend_from_slice(&piece);
        }
    }
    if too_large {
        let discard = async {
            let mut discarded = 0;
            while let Some(Ok(piece)) = pieces.next().await
                && discarded < DISCARD_BYTES_MAX
            {
                discarded += piece.len();
            }
        };
        // Out of courtesy only: whether it was read to its end does not change the answer.
        let _ = tokio::time::timeout(DISCARD_TIME_MAX, discard).await;
        let message = format!("the body is larger than {bytes_max} bytes");
        return Err(ApiError::new(ErrorCode::BodyTooLarge, message));
    }
    Ok(whole.freeze())
}

/// Finds model and stream; everything else must be JSON and is the worker's concern.
pub(super) fn peek(body: &[u8]) -> Result<Asked, ApiError> {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, default)]
        model: Option<Cow<'a, str>>,
        #[serde(default)]
        stream: Option<bool>,
    }
    let peek: Peek<'_> = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "the body is not a request" } else { "the body is not JSON" };
        ApiError::new(ErrorCode::InvalidRequest, format!("{what}: {error}"))
    })?;
    let model = peek
        .model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidRequest, "the request names no `model`").with_param("model"))?;
    Ok(Asked { model: model.into_owned(), stream: peek.stream.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_and_stream_are_found_among_anything() {
        let body = br#"{"messages":[{"a":[1,{"model":"inner"}]}],"model":"m\u0041","stream":true}"#;
        assert_eq!(peek(body).unwrap(), Asked { model: "mA".into(), stream: true });
        assert!(!peek(br#"{"model":"m","stream":null}"#).unwrap().stream);
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for (body, says) in [
            (r#"{"model": "m""#, "not JSON"),
            ("", "not JSON"),
            ("\u{0}", "not JSON"),
            (r#"{"model":"m"} x"#, "not JSON"),
            ("[1]", "not a request"),
            (r#"{"model": 5}"#, "not a request"),
            (r#"{"model":"m","stream":"yes"}"#, "not a request"),
            (r#"{"messages":[]}"#, "no `model`"),
            (r#"{"model":""}"#, "no `model`"),
        ] {
            let error = peek(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.contains(says), "{body}: {}", error.message);
        }
        assert!(peek(&[0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).is_err(), "no UTF-8");
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_bound_whether_declared_or_not() {
        for declared in [true, false] {
            for (length, taken) in [(10, true), (11, false)] {
                let mut headers = HeaderMap::new();
                if declared {
                    headers.insert(CONTENT_LENGTH, length.into());
                }
                let result = read_body(&headers, Body::from(vec![b'x'; length]), 10).await;
                assert_eq!(result.is_ok(), taken, "{length} bytes, declared: {declared}");
            }
        }
    }
}
