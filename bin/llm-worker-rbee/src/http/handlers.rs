//! `/v1/chat/completions` and `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use rbee_api::openai::{ChatRequest, CompletionRequest};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, current_correlation_id};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Answer, Kind};
use super::choice::Choice;
use super::logprobs::Writer;
use super::request::{self, Checked, Source, Wanted, names};
use super::{Service, body, relay, stream};
use crate::engine::Token;
use crate::grammar::{Form, FormError, Shape};
use crate::shaping::Shaping;
use crate::tools::parse::Parser;
use crate::tools::{Style, Tool, grammar};

pub(super) async fn chat(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let told = relay::is_wanted(http.headers());
    let bytes = body::read(http).await?;
    body::check_names(&bytes, &names::chat())?;
    let request: ChatRequest = body::parse(&bytes)?;
    service.check_model(&request.model)?;
    let (sources, checked) = request::chat(request)?;
    answer(service, Kind::Chat, sources, checked, told).await
}

pub(super) async fn completions(State(service): State<Arc<Service>>, http: Request) -> Result<Response, HttpError> {
    let told = relay::is_wanted(http.headers());
    let bytes = body::read(http).await?;
    body::check_names(&bytes, &names::completion())?;
    let request: CompletionRequest = body::parse(&bytes)?;
    service.check_model(&request.model)?;
    let (sources, checked) = request::completion(request)?;
    answer(service, Kind::Text, sources, checked, told).await
}

async fn answer(
    service: Arc<Service>,
    kind: Kind,
    sources: Vec<Source>,
    checked: Checked,
    told: bool,
) -> Result<Response, HttpError> {
    let places = service.admit(sources.len() * checked.n)?;
    let of_task = service.clone();
    let prepared = tokio::task::spawn_blocking(move || Prepared::new(&of_task, sources, checked)).await;
    let prepared =
        prepared.map_err(|error| ApiError::new(ErrorCode::Internal, format!("preparing failed: {error}")))??;
    let checked = &prepared.checked;
    let (is_stream, with_usage) = (checked.stream, checked.include_usage);
    let mut answer = Answer::new(kind, &service.model_name, is_stream && with_usage);
    if let Some(resume) = &checked.resume {
        answer = answer.known_as(&resume.id, resume.created);
    }
    let prompt_tokens = prepared.prompts.iter().map(|prompt| prompt.len() as u64).sum();
    tracing::debug!(prompt_tokens, stream = is_stream, "a request");
    service.metrics.requests.inc();
    let choices = prepared.submit(&service, &answer, places, told && is_stream)?;
    if is_stream {
        Ok(stream::events(answer, choices, prompt_tokens, with_usage, current_correlation_id()))
    } else {
        stream::whole(answer, choices, prompt_tokens).await
    }
}

/// A request with all that is slow to make.
struct Prepared {
    checked: Checked,
    prompts: Vec<Vec<Token>>,
    shape: Option<Shape>,
    style: Style,
}

impl Prepared {
    fn new(service: &Service, sources: Vec<Source>, mut checked: Checked) -> Result<Self, ApiError> {
        let tools = checked.toolbox.iter().flat_map(|toolbox| &toolbox.tools);
        let tools: Vec<Value> = tools.map(|tool| tool.source.clone()).collect();
        let prompts = sources.into_iter().map(|source| service.prompt_tokens(source, &tools));
        let prompts = prompts.collect::<Result<_, _>>()?;
        let style = service.template.as_ref().map_or(Style::Tagged, |template| template.style());
        let shape = shape(service, &mut checked, style)?;
        Ok(Self { checked, prompts, shape, style })
    }

    fn submit(
        self,
        service: &Service,
        answer: &Answer,
        places: Vec<OwnedSemaphorePermit>,
        told: bool,
    ) -> Result<Vec<Choice>, ApiError> {
        let mut places = places.into_iter();
        let mut choices = Vec::new();
        let each = self.prompts.iter().flat_map(|prompt| (0_u32..).take(self.checked.n).map(move |nth| (prompt, nth)));
        for ((prompt, nth), index) in each.zip(0_u32..) {
            let begun = self.checked.resume.iter().flat_map(|resume| &resume.choices);
            let begun = begun.into_iter().find(|choice| choice.index == index);
            let resumed = relay::Resumed::new(index, begun, told);
            let constraint = Shaping::constraint(&self.checked.bending, self.shape.as_ref().map(Shape::again));
            let receiver = service.submit(prompt.clone(), &self.checked, nth, constraint, &resumed, places.next())?;
            let writer = self.checked.logprobs.map(|_| Writer::new(answer.kind(), service.tokenizer.clone()));
            let choice = Choice::new(index, receiver, resumed.place, writer);
            choices.push(match self.checked.toolbox {
                Some(_) => choice.with_calls(Parser::new(self.style), answer.call_prefix()),
                None => choice,
            });
        }
        Ok(choices)
    }
}

/// What the answers must look like.
fn shape(service: &Service, checked: &mut Checked, style: Style) -> Result<Option<Shape>, ApiError> {
    let object = json!({"type": "object"});
    let answer = match &checked.wanted {
        Wanted::Anything => None,
        Wanted::Object => Some(&object),
        Wanted::Schema(schema) => Some(schema),
    };
    let answer_shape = answer.map(|schema| compile(service, &Form::json(schema), "response_format")).transpose()?;
    let Some(toolbox) = &mut checked.toolbox else { return Ok(answer_shape) };
    for (index, tool) in toolbox.tools.iter_mut().enumerate() {
        check_tool(service, index, tool, &object)?;
    }
    compile(service, &grammar::form(toolbox, style, answer), "tools").map(Some)
}

/// Arguments whose schema cannot be enforced are any object, unless the client insists.
fn check_tool(service: &Service, index: usize, tool: &mut Tool, object: &Value) -> Result<(), ApiError> {
    let param = format!("tools[{index}].function.parameters");
    match compile(service, &Form::json(&tool.parameters), &param) {
        Err(error) if tool.strict => Err(error),
        Err(_) => {
            tool.parameters = object.clone();
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn compile(service: &Service, form: &Form, param: &str) -> Result<Shape, ApiError> {
    service.grammars.shape(form).map_err(|error| {
        let code = match error {
            FormError::Refused { .. } => ErrorCode::InvalidParameter,
            FormError::Vocabulary { .. } => ErrorCode::UnsupportedParameter,
        };
        ApiError::new(code, format!("`{param}` has a schema that cannot be enforced: {error}")).with_param(param)
    })
}
