//! The text of a first configuration, with a comment on every key.

use std::fmt::Write as _;

use rbee_runtime::config::Role;

use super::answers::Answers;

/// The whole file.
pub(crate) fn text(answers: &Answers) -> String {
    let mut text = head(answers);
    text += &daemons(answers);
    text += &models(answers);
    text
}

fn head(answers: &Answers) -> String {
    let role = match answers.role {
        Role::Master => "master",
        Role::Worker => "worker",
        Role::Leecher => "leecher",
    };
    let members = |names: Vec<&str>| {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let all: Vec<&str> = answers.models.iter().map(|model| model.name.as_str()).collect();
    let first = members(all.iter().copied().take(1).collect());
    let mut text = format!(
        "# rbee.toml: what this machine runs. `rbee-keeper config check` tells what is\n\
         # wrong in it, `rbee-keeper config show` prints every key with its default.\n\n\
         # master: queen and hive start with `up`; worker: the hive does; leecher:\n\
         # nothing by itself. `auto_start` in [queen], [hive] or a worker overrides it.\n\
         role = \"{role}\"\n\
         {}\n",
        line("profile", &answers.profile, "which of [profiles] starts")
    );
    text += "# Sets of workers; \"*\" is all of them.\n[profiles]\nfull = [\"*\"]\n";
    let _ = writeln!(text, "minimal = {first}");
    if !matches!(answers.profile.as_str(), "full" | "minimal") {
        let _ = writeln!(text, "{} = {}", answers.profile, members(all));
    }
    text.push('\n');
    text
}

fn daemons(answers: &Answers) -> String {
    let Answers { role, name, queen, listen, .. } = answers;
    let mut text = String::new();
    let queen_listen = if *role == Role::Worker { "127.0.0.1:7833".to_owned() } else { listen.to_string() };
    let hive_listen = if *role == Role::Worker { listen.to_string() } else { "127.0.0.1:7835".to_owned() };
    let of_queen = if *role == Role::Master {
        "# The orchestrator: it answers OpenAI-compatible requests at its address + /v1.\n"
    } else {
        "# A queen of this machine; she starts by `rbee-keeper queen start` alone.\n"
    };
    text += of_queen;
    text += "[queen]\n";
    text += &line("listen", &queen_listen, reach(&queen_listen));
    text += &off("max_queue = 1024", "requests that may wait for a model");
    text += &off("queue_timeout = \"60s\"", "how long each of them may wait");
    text += "\n# API keys: with any, /v1 needs one of them, and what each uses is counted.\n# [queen.keys.alice]\n";
    text += &off("key_sha256 = \"…\"", "printf %s KEY | sha256sum");
    text.push('\n');
    text += "# The pool manager: it runs the workers of this machine.\n[hive]\n";
    text += &line("name", name, "unique in the fleet");
    text += &line("listen", &hive_listen, reach(&hive_listen));
    match (queen, role) {
        (Some(url), _) => text += &line("queen", url, "she says what runs here"),
        (None, Role::Master) => text += &line("queen", &own_queen(answers), "this machine's own"),
        (None, _) => text += &off("queen = \"http://10.0.0.5:7833\"", "she would say what runs here, not this file"),
    }
    text += &line("ports", "7855-7899", "workers get theirs from here");
    text.push('\n');
    text
}

/// Where this machine's hive finds its own queen.
fn own_queen(answers: &Answers) -> String {
    let (ip, port) = (answers.listen.ip(), answers.listen.port());
    if ip.is_unspecified() || ip.is_loopback() {
        format!("http://127.0.0.1:{port}")
    } else {
        format!("http://{}", answers.listen)
    }
}

fn reach(address: &str) -> &'static str {
    if address.starts_with("127.") || address.starts_with("[::1]") {
        "this machine alone"
    } else {
        "other machines too, with the token"
    }
}

/// A key that is not set.
fn off(text: &str, comment: &str) -> String {
    format!("{:<34}# {comment}\n", format!("# {text}"))
}

fn line(key: &str, value: &str, comment: &str) -> String {
    format!("{:<34}# {comment}\n", format!("{key} = \"{value}\""))
}

fn number(key: &str, value: u32, comment: &str) -> String {
    format!("{:<34}# {comment}\n", format!("{key} = {value}"))
}

fn models(answers: &Answers) -> String {
    let mut text = String::new();
    if answers.queen.is_some() {
        text += "# What runs here stands in the rbee.toml of queen's machine, as [worker.NAME].\n";
        if answers.models.is_empty() {
            return text;
        }
        text.push('\n');
    }
    text += "# Models: pypi:PACKAGE==VERSION#FILE, hf:ORG/REPO@REVISION::file=PATH,\n# https://… or file:/PATH.\n";
    if answers.models.is_empty() {
        text += "# [model.NAME]\n# source = \"file:/path/to/model.gguf\"\n\n\
                 # [worker.NAME]                 # our engine on that model\n# model = \"NAME\"\n# slots = 4\n\n";
    }
    for model in &answers.models {
        let _ = writeln!(text, "[model.{}]\nsource = \"{}\"", model.name, escaped(&model.source));
        match model.sha256 {
            Some(digest) => {
                let _ = writeln!(text, "sha256 = \"{digest}\"\n");
            }
            None => text += &(off("sha256 = \"…\"", "it is kept only if it hashes to this") + "\n"),
        }
    }
    for model in &answers.models {
        let _ = writeln!(text, "# Our engine on {0}.\n[worker.{0}]\nmodel = \"{0}\"", model.name);
        text += &number("replicas", answers.replicas, "processes side by side");
        text += &number("slots", answers.slots, "requests that each serves at once");
        text += &number("context", 2048, "tokens each of them has");
        text += &off("threads = 1", "absent: chosen by size and cores");
        text += &off("idle_ttl = \"10m\"", "unload when unused, load on request");
        text += &off("auto_start = false", "whatever role and profile say");
        text += "# limits = { memory_max = \"4GiB\", nice = 5 }\n\n";
    }
    text += "# Any other command is supervised just as well; filled in are {port}, {name},\n\
             # {replica}, {model_path}, {run_dir} and {state_dir}.\n\
             # [worker.cache]\n\
             # command = [\"redis-server\", \"--port\", \"{port}\", \"--save\", \"\"]\n";
    text += &off("ready = \"tcp\"", "how it proves that it is ready");
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rbee_runtime::config::Config;

    use super::super::answers::{Answering, Model, Question, Wishes, complete, read_model};
    use super::*;

    /// Takes every default.
    struct Defaults;

    impl Answering for Defaults {
        type Error = String;

        fn ask<T>(&mut self, question: Question<'_>, read: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
            read(&question.default)
        }
    }

    fn written(wishes: Wishes) -> Config {
        let text = text(&complete(wishes, &mut Defaults).unwrap());
        let fits = |line: &&str| line.chars().count() <= 80 || line.starts_with("source = ");
        assert!(text.lines().all(|line| fits(&line)), "{text}");
        Config::parse(&text, Path::new("rbee.toml")).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// ADVI-01
    #[test]
    fn every_role_and_profile_makes_a_sound_file_that_starts_what_it_says() {
        let two = vec![read_model("smollm2").unwrap(), read_model("b=https://example.org/b.gguf").unwrap()];
        for (role, queen, hive) in
            [(Role::Master, true, true), (Role::Worker, false, true), (Role::Leecher, false, false)]
        {
            for (profile, first_alone) in [("full", false), ("minimal", true), ("mine", false)] {
                for models in [Vec::new(), two[..1].to_vec(), two.clone()] {
                    let expected: Vec<&str> = match role {
                        Role::Leecher => Vec::new(),
                        _ => models
                            .iter()
                            .map(|m: &Model| m.name.as_str())
                            .take(if first_alone { 1 } else { 2 })
                            .collect(),
                    };
                    let expected: std::collections::BTreeSet<&str> = expected.into_iter().collect();
                    let config = written(Wishes {
                        role: Some(role),
                        profile: Some(profile.to_owned()),
                        models: Some(models.clone()),
                        ..Wishes::default()
                    });
                    assert_eq!((config.starts_queen(), config.starts_hive()), (queen, hive), "{role:?}");
                    assert_eq!(config.wanted_workers(None), expected, "{role:?} {profile}");
                    assert_eq!(config.profile.as_deref(), Some(profile));
                    assert!(config.not_in_force().is_empty());
                }
            }
        }
    }

    /// ADVI-01
    #[test]
    fn a_worker_of_another_queen_names_her_and_runs_what_she_says() {
        let wishes = Wishes {
            role: Some(Role::Worker),
            queen: Some("http://127.0.0.1:9999".to_owned()),
            name: Some("b".to_owned()),
            ..Wishes::default()
        };
        let config = written(wishes);
        assert_eq!((config.hive.queen.as_deref(), config.hive.name.as_str()), (Some("http://127.0.0.1:9999"), "b"));
        assert!(config.worker.is_empty() && config.model.is_empty());
    }

    #[test]
    fn a_master_on_the_network_keeps_its_own_hive_near() {
        for (listen, queen) in [("network", "http://127.0.0.1:7833"), ("10.0.0.5:80", "http://10.0.0.5:80")] {
            let wishes = Wishes { role: Some(Role::Master), listen: Some(listen.to_owned()), ..Wishes::default() };
            let config = written(wishes);
            assert_eq!(config.hive.queen.as_deref(), Some(queen));
            assert!(config.hive.listen.ip().is_loopback() && !config.queen.listen.ip().is_loopback());
        }
    }

    #[test]
    fn what_is_asked_for_is_what_is_written() {
        let wishes = Wishes {
            models: Some(vec![Model { name: "m".into(), source: "file:/a \"b\\c.gguf".into(), sha256: None }]),
            replicas: Some(3),
            slots: Some(8),
            ..Wishes::default()
        };
        let config = written(wishes);
        assert_eq!((config.worker["m"].replicas, config.worker["m"].slots), (3, 8));
        assert_eq!(config.model["m"].source.to_string(), "file:/a \"b\\c.gguf");
    }
}
