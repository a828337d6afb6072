//! `config init | check | show | path`.

pub(crate) mod answers;
mod init;
mod text;

use serde_json::json;

use crate::cli::ConfigCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Init(args) => init::run(context, args).await,
        ConfigCommand::Check => check(context),
        ConfigCommand::Show => show(context),
        ConfigCommand::Path => path(context),
    }
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
