//! `config init`: a first configuration, from flags, from answers on a terminal, or the built-in one; and the token.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rbee_runtime::config::{Config, DEFAULT_TEXT, Role};
use serde_json::json;

use super::answers::{self, Answering, Answers, Question, Wishes};
use super::text;
use crate::cli::InitArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;

/// Answers to one question that may make no sense.
const TRIES_MAX: u32 = 5;

pub(crate) async fn run(context: &Context, args: InitArgs) -> Result<Exit, Failure> {
    let path = context.settings.config_file.clone();
    let asks = !args.yes && context.ui.can_ask();
    if !asks && args.says_nothing() {
        return finish(context, &path, DEFAULT_TEXT, args.force, None);
    }
    if asks && !args.force && path.exists() {
        // Before anybody answers anything.
        return Err(exists(&path));
    }
    let (ui, force) = (context.ui.clone(), args.force);
    let wishes = wishes(&args)?;
    let answers = context.blocking(move || {
        if asks {
            ui.heading("Enter takes what stands in [brackets]; Ctrl-C ends it, and nothing is written.");
            answers::complete(wishes, &mut Terminal(ui))
        } else {
            answers::complete(wishes, &mut Defaults)
        }
    });
    let answers = answers.await?;
    let text = text::text(&answers);
    // Never a file that would be refused.
    Config::parse(&text, &path)?;
    finish(context, &path, &text, force, Some(&answers))
}

fn wishes(args: &InitArgs) -> Result<Wishes, Failure> {
    let refused = |flag: &str, reason: String| Failure::new("usage", format!("{flag}: {reason}")).exit(Exit::USAGE);
    let models = match (args.no_model, args.model.is_empty()) {
        (true, _) => Some(Vec::new()),
        (false, true) => None,
        (false, false) => Some(args.model.clone()),
    };
    if let Some(models) = &models {
        answers::distinct(models).map_err(|reason| refused("--model", reason))?;
    }
    if let Some(listen) = &args.listen {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        answers::read_listen(listen, any, Role::Master).map_err(|reason| refused("--listen", reason))?;
    }
    Ok(Wishes {
        role: args.role,
        profile: args.profile.clone(),
        name: args.name.clone(),
        queen: args.queen.clone(),
        listen: args.listen.clone(),
        models,
        replicas: args.replicas,
        slots: args.slots,
    })
}

/// Nobody is asked.
struct Defaults;

impl Answering for Defaults {
    type Error = Failure;

    fn ask<T>(&mut self, question: Question<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        read(&question.default).map_err(|reason| Failure::new("internal", format!("{}: {reason}", question.text)))
    }
}

/// Somebody at a terminal.
struct Terminal(Ui);

impl Answering for Terminal {
    type Error = Failure;

    fn ask<T>(&mut self, question: Question<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Failure> {
        let Question { text, choices, default } = question;
        for _ in 0..TRIES_MAX {
            let answer = self.0.ask(text, choices, &default);
            let answer = answer.map_err(|error| Failure::new("terminal", "cannot read the answer").because(&error))?;
            let Some(answer) = answer else {
                return Err(Failure::new("aborted", "the answers ended: nothing was written"));
            };
            match read(if answer.is_empty() { &default } else { &answer }) {
                Ok(value) => return Ok(value),
                Err(reason) => self.0.warn(&reason),
            }
        }
        Err(Failure::new("aborted", format!("{TRIES_MAX} answers that make no sense: nothing was written")))
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new("exists", format!("{} exists and says something else", path.display())).hint("`--force` replaces it")
}

fn finish(context: &Context, path: &Path, text: &str, force: bool, answers: Option<&Answers>) -> Result<Exit, Failure> {
    context.dirs.create()?;
    let changed = match write_new(path, text, force) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !std::fs::read_to_string(path).is_ok_and(|there| there == text) {
                return Err(exists(path));
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
        if answers.is_some_and(|answers| answers.queen.is_some()) {
            ui.hint(&format!("put the token of queen's machine into {}", token_file.display()));
        }
        match answers {
            Some(answers) if answers.role == Role::Leecher => {
                ui.hint("`rbee-keeper queen start` starts queen; `rbee-keeper status` shows what runs");
            }
            Some(_) => ui.hint("`rbee-keeper up` starts it"),
            None => ui.hint("edit it, then `rbee-keeper config check` and `rbee-keeper up`"),
        }
        String::new()
    });
    Ok(Exit::DONE)
}

/// Writes beside the file and moves it there, so that it is whole or not at all.
fn write_new(path: &Path, text: &str, force: bool) -> io::Result<()> {
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
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| if force { std::fs::rename(&draft, path) } else { std::fs::hard_link(&draft, path) });
    // After a rename there is nothing left to remove.
    let _ = std::fs::remove_file(&draft);
    written
}
