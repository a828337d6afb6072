//! `infer`: one question, the answer streamed to stdout.

use std::io::{self, Read};

use rbee_api::openai::{ChatRequest, Generation};
use rbee_api::{FleetStatus, Phase};

use crate::cli::InferArgs;
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::inference::{Inference, messages};

/// Longest question taken from stdin, in bytes.
const PROMPT_BYTES_MAX: u64 = 8 << 20;

pub(super) async fn run(context: &Context, args: InferArgs) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let prompt = if args.prompt == "-" { context.blocking(read_stdin).await? } else { args.prompt.clone() };
    let target = context.target(&config);
    match infer(context, &target, &args, &prompt).await {
        // Nothing was shown of an answer: asked again, it is the same question.
        Err(failure) if failure.code == "unreachable" && context.recover(&config, &target).await? => {
            infer(context, &target, &args, &prompt).await
        }
        other => other,
    }
}

async fn infer(context: &Context, target: &Target, args: &InferArgs, prompt: &str) -> Result<Exit, Failure> {
    let (inference, model) = match target {
        Target::Queen { url, .. } => {
            let inference = Inference::new(url, context.token()?)?;
            let model = match &args.model {
                Some(model) => model.clone(),
                None => only_one(inference.models().await?)?,
            };
            (inference, model)
        }
        Target::Hive { url, .. } => {
            let fleet = context.client(url)?.status().await?;
            let (worker_url, model) = worker_of_hive(&fleet, url, args.model.clone())?;
            (Inference::new(&worker_url, context.token()?)?, model)
        }
    };
    let request = ChatRequest {
        model,
        messages: messages(args.system.as_deref(), prompt),
        generation: Generation {
            max_tokens: args.max_tokens.map(i64::from),
            temperature: args.temperature,
            seed: args.seed.map(i64::from),
            ..Generation::default()
        },
        ..ChatRequest::default()
    };
    let ui = &context.ui;
    let answer = if ui.is_json() {
        let answer = inference.chat(request, |_| Ok(())).await?;
        ui.json(&answer);
        answer
    } else {
        let mut any = false;
        let show = |piece: &str| {
            any |= !piece.is_empty();
            ui.stream(piece.as_bytes())
        };
        let answer = inference.chat(request, show).await;
        if any || answer.is_ok() {
            // What came stands on a line of its own, whether or not it is all.
            let _ = ui.stream(b"\n");
        }
        answer?
    };
    if let Some(usage) = answer.usage {
        ui.detail(&format!("{} tokens read, {} written", usage.prompt_tokens, usage.completion_tokens));
    }
    Ok(Exit::DONE)
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let failed = |error: io::Error| Failure::new("stdin", "cannot read the question from stdin").because(&error);
    io::stdin().lock().take(PROMPT_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > PROMPT_BYTES_MAX {
        return Err(Failure::new("stdin", format!("the question is longer than {PROMPT_BYTES_MAX} bytes")));
    }
    if text.trim().is_empty() {
        return Err(Failure::new("usage", "stdin holds no question")
            .exit(Exit::USAGE)
            .hint("echo QUESTION | … infer -"));
    }
    Ok(text)
}

fn only_one(models: Vec<String>) -> Result<String, Failure> {
    match models.as_slice() {
        [model] => Ok(model.clone()),
        [] => Err(Failure::new("model_not_found", "no model is served")
            .hint("`rbee-keeper worker list` shows the workers and why they are not running")
            .exit(Exit::TRY_AGAIN)),
        several => Err(Failure::new("usage", "several models are served; which one?")
            .hint(format!("--model {}", several.join(" | ")))
            .exit(Exit::USAGE)),
    }
}

/// A hive that stands alone has no gateway: its workers are asked directly, at the hive's host.
fn worker_of_hive(fleet: &FleetStatus, hive_url: &str, model: Option<String>) -> Result<(String, String), Failure> {
    let running = || fleet.workers().map(|(_, worker)| worker).filter(|worker| worker.phase == Phase::Running);
    let model = match model {
        Some(model) => model,
        None => {
            let mut models: Vec<String> = running().filter_map(|worker| worker.model.clone()).collect();
            models.sort();
            models.dedup();
            only_one(models)?
        }
    };
    let port = running().find(|worker| worker.model.as_ref() == Some(&model)).and_then(|worker| worker.port);
    let Some(port) = port else {
        return Err(Failure::new("model_not_found", format!("no running worker of that hive serves `{model}`")));
    };
    let url: reqwest::Url =
        hive_url.parse().map_err(|_| Failure::new("usage", format!("`{hive_url}` is no URL")).exit(Exit::USAGE))?;
    let host = url.host_str().unwrap_or("127.0.0.1");
    Ok((format!("http://{host}:{port}"), model))
}
