//! `/v1/embeddings`: pooled states of the loaded model, one vector of length one for each input.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rbee_api::openai::{Embedding, Embeddings, EmbeddingsRequest, EmbeddingsUsage, Prompt, Vector};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, Json};
use tokio::sync::oneshot;

use super::request::{Reworded, Source, invalid, unsupported};
use super::service::engine_is_gone;
use super::{Service, body};
use crate::engine::Token;
use crate::job::{Command, EmbedJob};

/// Most inputs of one request, as OpenAI has it.
const INPUTS_MAX: usize = 2048;

const KNOWN: &[&str] = &["model", "input", "encoding_format", "dimensions", "user"];

/// How the vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Float,
    Base64,
}

impl Encoding {
    fn of(name: Option<&str>) -> Result<Self, ApiError> {
        match name {
            None | Some("float") => Ok(Self::Float),
            Some("base64") => Ok(Self::Base64),
            Some(other) => Err(invalid("encoding_format", &format!("must be `float` or `base64`, not `{other}`"))),
        }
    }

    fn write(self, numbers: Vec<f32>) -> Vector {
        match self {
            Self::Float => Vector::Float(numbers),
            Self::Base64 => {
                let bytes: Vec<u8> = numbers.into_iter().flat_map(f32::to_le_bytes).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

pub(super) async fn embeddings(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let bytes = body::read(http).await?;
    body::check_names(&bytes, KNOWN)?;
    let request: EmbeddingsRequest = body::typed(&bytes)?;
    service.check_model(&request.model)?;
    let encoding = Encoding::of(request.encoding_format.as_deref())?;
    check_dimensions(request.dimensions, service.info.embedding_size)?;
    let sources = sources(request.input)?;
    let place = service.admit(1)?.pop();
    let of_task = service.clone();
    let inputs = tokio::task::spawn_blocking(move || tokens(&of_task, sources)).await;
    let inputs =
        inputs.map_err(|error| ApiError::new(ErrorCode::Internal, format!("tokenizing failed: {error}")))??;
    let prompt_tokens = inputs.iter().map(|input| input.len() as u64).sum();
    let (reply, answer) = oneshot::channel();
    service.metrics.requests.inc();
    service.commands.send(Command::Embed(EmbedJob { inputs, reply, place })).map_err(|_| engine_is_gone())?;
    let vectors = answer.await.map_err(|_| engine_is_gone())??;
    let data = vectors.into_iter().zip(0..).map(|(vector, index)| Embedding {
        object: "embedding".to_owned(),
        index,
        embedding: encoding.write(vector),
    });
    let usage = EmbeddingsUsage { prompt_tokens, total_tokens: prompt_tokens };
    let (object, model) = ("list".to_owned(), service.model_name.clone());
    Ok(Json(Embeddings { object, data: data.collect(), model, usage }).into_response())
}

/// A vector cut short would only mean something for models trained for it.
fn check_dimensions(wanted: Option<i64>, size: usize) -> Result<(), ApiError> {
    match wanted {
        None => Ok(()),
        Some(wanted) if usize::try_from(wanted) == Ok(size) => Ok(()),
        Some(wanted) if wanted < 1 => Err(invalid("dimensions", "must be at least 1")),
        Some(_) => Err(unsupported("dimensions").reworded(&format!("this model's embeddings have {size} dimensions"))),
    }
}

fn sources(input: Prompt) -> Result<Vec<Source>, ApiError> {
    let tokens = |ids: Vec<i32>| Source::Tokens(ids.into_iter().map(Token).collect());
    let sources: Vec<Source> = match input {
        Prompt::Text(text) => vec![Source::Text(text)],
        // An empty array is read as one of token ids.
        Prompt::Tokens(ids) if ids.is_empty() => Vec::new(),
        Prompt::Tokens(ids) => vec![tokens(ids)],
        Prompt::Texts(texts) => texts.into_iter().map(Source::Text).collect(),
        Prompt::TokenLists(lists) => lists.into_iter().map(tokens).collect(),
    };
    if (1..=INPUTS_MAX).contains(&sources.len()) {
        return Ok(sources);
    }
    Err(invalid("input", &format!("must have 1 to {INPUTS_MAX} inputs, not {}", sources.len())))
}

fn tokens(service: &Service, sources: Vec<Source>) -> Result<Vec<Vec<Token>>, ApiError> {
    let of_one = |source| {
        let is_empty = match &source {
            Source::Text(text) => text.is_empty(),
            Source::Tokens(tokens) => tokens.is_empty(),
            Source::Turns(_) => false,
        };
        if is_empty { Err(invalid("input", "has an empty input")) } else { service.input_tokens(source) }
    };
    sources.into_iter().map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OAI-40.
    #[test]
    fn base64_is_of_little_endian_floats() {
        assert_eq!(Encoding::Base64.write(vec![1.0, -0.5]), Vector::Base64("AACAPwAAAL8=".into()));
        assert_eq!(Encoding::of(Some("int8")).unwrap_err().param.as_deref(), Some("encoding_format"));
    }

    /// OAI-41.
    #[test]
    fn inputs_come_in_four_forms() {
        let of = |value| sources(serde_json::from_value(value).unwrap());
        let (a, ids) = (Source::Text("a".into()), Source::Tokens(vec![Token(1), Token(2)]));
        assert_eq!(of(serde_json::json!("a")).unwrap(), std::slice::from_ref(&a));
        assert_eq!(of(serde_json::json!(["a", "a"])).unwrap(), [a.clone(), a]);
        assert_eq!(of(serde_json::json!([1, 2])).unwrap(), std::slice::from_ref(&ids));
        assert_eq!(of(serde_json::json!([[1, 2], [1, 2]])).unwrap(), [ids.clone(), ids]);
        for bad in [serde_json::json!([]), serde_json::json!(vec!["x"; INPUTS_MAX + 1])] {
            assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("input"));
        }
    }

    #[test]
    fn vectors_are_not_cut_short() {
        assert!(check_dimensions(None, 576).is_ok() && check_dimensions(Some(576), 576).is_ok());
        assert_eq!(check_dimensions(Some(64), 576).unwrap_err().code, ErrorCode::UnsupportedParameter);
        assert_eq!(check_dimensions(Some(0), 576).unwrap_err().code, ErrorCode::InvalidParameter);
    }
}
