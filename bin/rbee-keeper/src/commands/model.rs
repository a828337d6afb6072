//! `model list | pull | rm`, and fetching what `up` needs.

use model_store::{ModelStore, Progress, Stage};
use rbee_runtime::config::{Config, ModelConfig};
use serde_json::json;

use crate::cli::ModelCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::{Align, Cell, Table, Tone};

pub(super) async fn run(context: &Context, command: ModelCommand) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    match command {
        ModelCommand::List => list(context, &config),
        ModelCommand::Pull { name } => pull(context, &config, &name).await,
        ModelCommand::Rm { name } => remove(context, &config, name).await,
    }
}

fn list(context: &Context, config: &Config) -> Result<Exit, Failure> {
    let stored = store(context).list()?;
    let mut rows: Vec<(String, String, Option<u64>)> = config
        .model
        .iter()
        .map(|(name, model)| {
            let size = stored.iter().find(|s| s.name == *name).map(|s| s.size_bytes);
            (name.clone(), model.source.to_string(), size)
        })
        .collect();
    let extra = stored.iter().filter(|s| !config.model.contains_key(&s.name));
    rows.extend(extra.map(|s| (s.name.clone(), s.source.to_string(), Some(s.size_bytes))));
    let path = |name: &str| stored.iter().find(|s| s.name == name).map(|s| &s.path);
    let answer: Vec<_> = rows
        .iter()
        .map(|(name, source, size)| {
            json!({ "name": name, "source": source, "here": size.is_some(), "size_bytes": size, "path": path(name),
                "configured": config.model.contains_key(name) })
        })
        .collect();
    context.ui.answer(&json!({ "models": answer }), |ui| {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("STATE", Align::Left),
            ("SIZE", Align::Right),
            ("SOURCE", Align::Left),
        ]);
        for (name, source, size) in &rows {
            let state =
                if size.is_some() { Cell::toned("here", Tone::Good) } else { Cell::toned("missing", Tone::Warn) };
            let size = size.map(|size| indicatif::BinaryBytes(size).to_string()).unwrap_or_default();
            table.row(vec![Cell::new(name), state, Cell::new(size), Cell::new(source)]);
        }
        table.render(ui.color())
    });
    Ok(Exit::DONE)
}

async fn pull(context: &Context, config: &Config, name: &str) -> Result<Exit, Failure> {
    let Some(model) = config.model.get(name) else { return Err(unknown(config, name)) };
    context.dirs.create()?;
    let (path, changed) = fetch(context, name, model).await?;
    context.ui.answer(&json!({ "name": name, "path": path, "changed": changed }), |ui| {
        ui.done(&format!("{name} is {}", if changed { "here now" } else { "here already" }));
        path.display().to_string()
    });
    Ok(Exit::DONE)
}

async fn remove(context: &Context, config: &Config, name: String) -> Result<Exit, Failure> {
    let store = store(context);
    let removed = context.blocking({
        let name = name.clone();
        move || store.remove(&name)
    });
    let changed = removed.await?;
    if !changed && !config.model.contains_key(&name) {
        return Err(unknown(config, &name));
    }
    context.ui.answer(&json!({ "name": name, "changed": changed }), |ui| {
        ui.done(&format!("{name} {}", if changed { "is removed" } else { "was not here" }));
        String::new()
    });
    Ok(Exit::DONE)
}

/// Fetches what the workers named need and do not have.
pub(super) async fn fetch_for(context: &Context, config: &Config, workers: &[&str]) -> Result<(), Failure> {
    let mut names: Vec<&str> = workers.iter().filter_map(|name| config.worker.get(*name)?.model.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        if let Some(model) = config.model.get(name)
            && let (_, true) = fetch(context, name, model).await?
        {
            context.ui.done(&format!("model {name} is here and its digest is right"));
        }
    }
    Ok(())
}

/// The model's file, fetched now if it was not here, with a bar on stderr; whether it was fetched.
async fn fetch(context: &Context, name: &str, model: &ModelConfig) -> Result<(std::path::PathBuf, bool), Failure> {
    let store = store(context);
    let before = store.path(name);
    let mut bar = None;
    let show = |progress: Progress| {
        let bar = bar.get_or_insert_with(|| context.ui.byte_bar(name));
        let what = match progress.stage {
            Stage::Waiting => "waits for another fetch of",
            Stage::Downloading => "downloading",
            Stage::Unpacking => "unpacking",
            Stage::Verifying => "verifying",
        };
        bar.set_message(format!("{what} {name}"));
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.done_bytes);
    };
    let fetched = store.ensure(name, &model.source, model.sha256.as_ref(), show).await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let path = fetched?;
    let changed = before.is_none() && !matches!(model.source, model_store::ModelSource::File { .. });
    Ok((path, changed))
}

fn store(context: &Context) -> ModelStore {
    ModelStore::new(context.dirs.models_dir())
}

fn unknown(config: &Config, name: &str) -> Failure {
    let known: Vec<&str> = config.model.keys().map(String::as_str).collect();
    Failure::new("model_not_found", format!("no model `{name}` in the configuration"))
        .hint(format!("models: {}; add one as `[model.{name}]`", known.join(", ")))
}
