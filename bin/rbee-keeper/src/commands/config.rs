//! `config init | check | show | path`.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rbee_runtime::config::DEFAULT_TEXT;
use serde_json::json;

use crate::cli::ConfigCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) fn run(context: &Context, command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Init { force } => init(context, force),
        ConfigCommand::Check => check(context),
        ConfigCommand::Show => show(context),
        ConfigCommand::Path => path(context),
    }
}

fn init(context: &Context, force: bool) -> Result<Exit, Failure> {
    let path = &context.settings.config_file;
    context.dirs.create()?;
    let changed = match write_new(path, force) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !std::fs::read_to_string(path).is_ok_and(|text| text == DEFAULT_TEXT) {
                let message = format!("{} exists and says something else", path.display());
                return Err(Failure::new("exists", message).hint("`--force` replaces it"));
            }
            false
        }
        Err(error) => {
            return Err(Failure::new("config", format!("cannot write {}", path.display()))
                .because(&error)
                .exit(Exit::CONFIG));
        }
    };
    context.token_or_new()?;
    let token_file = context.dirs.token_file();
    context.ui.answer(&json!({ "changed": changed, "config_file": path, "token_file": token_file }), |ui| {
        let what = if changed { "wrote" } else { "is there already:" };
        ui.done(&format!("{what} {}", path.display()));
        ui.hint("edit it, then `rbee-keeper config check` and `rbee-keeper up`");
        String::new()
    });
    Ok(Exit::DONE)
}

/// Writes beside the file and moves it there, so that it is whole or not at all.
fn write_new(path: &Path, force: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("toml.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(DEFAULT_TEXT.as_bytes()))
        .and_then(|()| if force { std::fs::rename(&draft, path) } else { std::fs::hard_link(&draft, path) });
    // After a rename there is nothing left to remove.
    let _ = std::fs::remove_file(&draft);
    written
}

fn check(context: &Context) -> Result<Exit, Failure> {
    let loaded = context.config()?;
    let not_in_force = loaded.config.not_in_force();
    for key in &not_in_force {
        context.ui.warn(&format!("`{}` is understood, but has no effect here", key.key));
    }
    let token = context.token()?;
    for (key, listen) in [("queen.listen", loaded.config.queen.listen), ("hive.listen", loaded.config.hive.listen)] {
        if !listen.ip().is_loopback() && token.is_none() {
            let message = format!("`{key}` lets other machines in ({listen}), but there is no token");
            return Err(Failure::new("unprotected", message)
                .hint("`rbee-keeper config init` makes one")
                .exit(Exit::CONFIG));
        }
    }
    context.ui.answer(
        &json!({ "ok": true, "config_file": loaded.path, "not_in_force": not_in_force, "role": loaded.config.role,
            "workers": loaded.config.wanted_workers(None) }),
        |ui| {
            match &loaded.path {
                Some(path) => ui.done(&format!("{} is sound", path.display())),
                None => {
                    ui.done("the built-in configuration holds");
                    ui.hint(&format!(
                        "`rbee-keeper config init` writes it to {}",
                        context.settings.config_file.display()
                    ));
                }
            }
            String::new()
        },
    );
    Ok(Exit::DONE)
}

fn show(context: &Context) -> Result<Exit, Failure> {
    let loaded = context.config()?;
    let text = toml::to_string(&loaded.config)
        .map_err(|error| Failure::new("internal", "cannot print the configuration").because(&error))?;
    context.ui.answer(&loaded.config, |_| {
        let from = loaded.path.as_ref().map(|path| path.display().to_string());
        format!("# {}, defaults filled in\n{text}", from.unwrap_or_else(|| "built-in configuration".to_owned()))
    });
    Ok(Exit::DONE)
}

fn path(context: &Context) -> Result<Exit, Failure> {
    let (dirs, file) = (&context.dirs, &context.settings.config_file);
    let all = json!({
        "config_file": file, "token_file": dirs.token_file(), "state_dir": dirs.state_dir(), "log_dir": dirs.log_dir(),
        "models_dir": dirs.models_dir(), "run_dir": dirs.run_dir(),
    });
    context.ui.answer(&all, |ui| {
        ui.detail(&format!(
            "state {}\nlogs {}\nmodels {}\nrun files {}",
            dirs.state_dir().display(),
            dirs.log_dir().display(),
            dirs.models_dir().display(),
            dirs.run_dir().display()
        ));
        file.display().to_string()
    });
    Ok(Exit::DONE)
}
