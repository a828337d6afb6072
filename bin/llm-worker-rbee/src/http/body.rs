//! Reads a request's body: bounded, and with an error that names the field at fault.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use futures_util::StreamExt;
use rbee_api::openai::Generation;
use rbee_api::{ApiError, ErrorCode};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::BODY_BYTES_MAX;

/// How much of a body that is too large is read and thrown away, bytes. A client that is still sending when the
/// connection closes would see a broken connection instead of the answer.
const DISCARDED_BYTES_MAX: usize = 64 << 20;

/// The whole body.
pub(super) async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > DISCARDED_BYTES_MAX) {
        return Err(too_large());
    }
    read_bounded(request.into_body()).await
}

async fn read_bounded(body: Body) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut total) = (Vec::new(), 0_usize);
    while let Some(piece) = stream.next().await {
        let broken = |error| ApiError::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}"));
        let piece = piece.map_err(broken)?;
        total = total.saturating_add(piece.len());
        if total <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&piece);
        } else if total > DISCARDED_BYTES_MAX {
            break;
        }
    }
    if total > BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> ApiError {
    let message = format!("the body is larger than the {} MiB this server takes", BODY_BYTES_MAX >> 20);
    ApiError::new(ErrorCode::BodyTooLarge, message)
}

/// Refuses names that are not `known`, with the nearest one that is. What is `null` is not given.
pub(super) fn check_names(bytes: &[u8], known: &[&str]) -> Result<(), ApiError> {
    let given: HashMap<String, Option<IgnoredAny>> = typed(bytes)?;
    // In the order of names, so that the same request gets the same answer.
    let strange = given.iter().filter(|(name, value)| value.is_some() && !known.contains(&name.as_str()));
    let Some(name) = strange.map(|(name, _)| name).min() else { return Ok(()) };
    let distance = |known: &&&str| strsim::damerau_levenshtein(name, known);
    let near = known.iter().min_by_key(distance).filter(|near| distance(near) <= 1 + name.len() / 4);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let message = format!("there is no parameter `{name}`{hint}");
    Err(ApiError::new(ErrorCode::UnknownParameter, message).with_param(name))
}

/// The body as a typed request. `Generation`, which both kinds of request contain, is looked at alone first: inside
/// the whole, an error in it would not know its field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    typed::<Generation>(bytes)?;
    typed(bytes)
}

pub(super) fn typed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() && path != "." {
            let message = format!("`{path}` is not of the form this path takes: {inner}");
            ApiError::new(ErrorCode::InvalidRequest, message).with_param(path)
        } else {
            ApiError::new(ErrorCode::InvalidRequest, format!("the body is not the JSON this path takes: {inner}"))
        }
    })?;
    json.end().map_err(|error| {
        ApiError::new(ErrorCode::InvalidRequest, format!("there is more than one JSON value in the body: {error}"))
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use rbee_api::openai::{ChatRequest, CompletionRequest};

    use super::*;

    #[test]
    fn the_field_at_fault_is_named() {
        let table: [(&str, Option<&str>); 6] = [
            (r#"{"model":"m","messages":[],"max_tokens":"x"}"#, Some("max_tokens")),
            (r#"{"model":"m","messages":[{"role":1}]}"#, Some("messages[0].role")),
            (r#"{"model":7,"messages":[]}"#, Some("model")),
            (r#"{"model":"m"}"#, None),
            ("{", None),
            (r#"{"model":"m","messages":[]} {}"#, None),
        ];
        for (body, param) in table {
            let error = parse::<ChatRequest>(body.as_bytes()).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (ErrorCode::InvalidRequest, param), "{body}: {error}");
        }
        let error = parse::<CompletionRequest>(br#"{"model":"m","prompt":{"a":1}}"#).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("prompt"), "{error}");
    }

    /// OAI-03.
    #[test]
    fn a_strange_name_is_refused_with_the_nearest_one() {
        let known = ["model", "max_tokens"];
        let check = |body: &str| check_names(body.as_bytes(), &known);
        assert_eq!(check(r#"{"model": 7, "other": null}"#), Ok(()));
        let error = check(r#"{"max_token": 5}"#).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (ErrorCode::UnknownParameter, Some("max_token")));
        assert!(error.message.contains("`max_tokens`"), "{error}");
        assert!(!check(r#"{"elephant": 5}"#).unwrap_err().message.contains("mean"));
        assert_eq!(check("[]").unwrap_err().code, ErrorCode::InvalidRequest);
    }

    #[tokio::test]
    async fn a_large_body_is_refused() {
        let body = Body::from(vec![b' '; BODY_BYTES_MAX + 1]);
        assert_eq!(read_bounded(body).await.unwrap_err().code, ErrorCode::BodyTooLarge);
        assert_eq!(read_bounded(Body::from("{}")).await.unwrap(), b"{}");
    }
}
