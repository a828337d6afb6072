//! The command line where no daemon is needed: exit codes, messages, JSON. KEEP-01, KEEP-02, KEEP-04, KEEP-09, CONF-01,
//! CONF-03, CONF-05.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use assert_cmd::Command;
use predicates::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

/// Keeper with a home of its own and nothing of the caller's environment.
fn keeper(home: &Path) -> Command {
    let mut command = Command::cargo_bin("rbee-keeper").unwrap();
    command.env_clear().env("PATH", "/usr/bin:/bin").env("RBEE_HOME", home);
    command
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write_config(home: &TempDir, text: &str) {
    std::fs::write(home.path().join("rbee.toml"), text).unwrap();
}

fn json_of(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&output.stdout)));
    (output.status.code().unwrap(), value)
}

#[test]
fn nonsense_is_64_with_error_and_hint() {
    let home = home();
    for (args, error, hint) in [
        (&["statsu"][..], "error: unrecognized subcommand 'statsu'", "hint: a similar subcommand exists: 'status'"),
        (&["status", "--jsn"], "error: unexpected argument '--jsn' found", "hint: a similar argument exists: '--json'"),
        (&["worker", "start", "a/x"], "error: invalid value 'a/x' for '<NAME>': `x` is no replica", "hint: "),
        (&["worker", "start"], "error: the following required arguments were not provided", "hint: usage: "),
        (&["up", "--timeout", "soon"], "error: invalid value 'soon' for '--timeout <DURATION>'", "hint: "),
        (&["up", "--timeout", "0s"], "must not be 0", "hint: "),
        (&["infer", "--temperature", "9", "x"], "must be a number from 0 to 2", "hint: "),
        (&["infer", "--max-tokens", "-1", "x"], "error: ", "hint: "),
        (&["status", "--hive", "nowhere"], "must be a URL such as http://127.0.0.1:7835", "hint: "),
    ] {
        keeper(home.path())
            .args(args)
            .assert()
            .code(64)
            .stdout("")
            .stderr(predicate::str::contains(error).and(predicate::str::contains(hint)));
    }
}

#[test]
fn a_verb_without_its_object_prints_its_help() {
    let home = home();
    for args in [&[][..], &["queen"], &["worker"], &["model"], &["config"]] {
        keeper(home.path()).args(args).assert().code(64).stderr(predicate::str::contains("Usage: rbee-keeper"));
    }
    keeper(home.path()).arg("--help").assert().success().stdout(predicate::str::contains("rbee-keeper up"));
    keeper(home.path()).arg("--version").assert().success().stdout(predicate::str::starts_with("rbee-keeper 0."));
}

/// KEEP-21
#[test]
#[expect(clippy::disallowed_methods, reason = "a real pipe, whose reader goes away")]
fn a_reader_that_goes_away_is_no_failure() {
    let home = home();
    for (args, code) in [(&["--help"][..], 0), (&["config", "show"], 0), (&["config", "init"], 0), (&["statsu"], 64)] {
        let [out, err] = [(); 2].map(|()| {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        });
        let program = keeper(home.path()).get_program().to_owned();
        let mut command = std::process::Command::new(program);
        command.env_clear().env("RBEE_HOME", home.path()).args(args).stdout(out).stderr(err);
        assert_eq!(command.status().unwrap().code(), Some(code), "{args:?}");
    }
}

#[test]
fn usage_errors_are_json_with_json() {
    let home = home();
    let (code, error) = json_of(keeper(home.path()).args(["statsu", "--json"]));
    assert_eq!(code, 64);
    assert_eq!(error["error"]["code"], "usage");
    assert!(error["error"]["message"].as_str().unwrap().contains("statsu"));
}

#[test]
fn nothing_runs_is_3() {
    let home = home();
    keeper(home.path())
        .arg("status")
        .assert()
        .code(3)
        .stdout(predicate::str::contains("queen").and(predicate::str::contains("stopped")))
        .stderr(predicate::str::contains("hint: `rbee-keeper up` starts it"));
    let (code, status) = json_of(keeper(home.path()).args(["status", "--json"]));
    assert_eq!(code, 3);
    assert_eq!(status["queen"]["phase"], "stopped");
    assert_eq!(status["queen"]["url"], "http://127.0.0.1:7833");
    assert_eq!(status["hives"], serde_json::json!([]));
    for args in [&["queen", "status"][..], &["hive", "status", "local"], &["worker", "status", "smollm2"]] {
        keeper(home.path()).args(args).assert().code(3);
    }
    keeper(home.path()).args(["worker", "status", "nobody"]).assert().code(4);
    assert!(!home.path().join("run").exists(), "looking creates nothing");
}

#[test]
fn the_pid_file_of_a_dead_process_is_stale_and_1() {
    let home = home();
    let mut child = std::process::Command::new("true");
    #[expect(clippy::disallowed_methods, reason = "a process that is gone, for its pid")]
    let mut child = child.spawn().unwrap();
    child.wait().unwrap();
    std::fs::create_dir(home.path().join("run")).unwrap();
    std::fs::write(home.path().join("run/queen.pid"), format!("{}\n", child.id())).unwrap();
    let (code, status) = json_of(keeper(home.path()).args(["status", "--json"]));
    assert_eq!((code, status["queen"]["phase"].as_str()), (1, Some("stale")));
    keeper(home.path()).args(["queen", "status"]).assert().code(1);
    keeper(home.path()).arg("down").assert().success();
    keeper(home.path()).arg("status").assert().code(3);
}

#[test]
fn a_garbage_pid_file_is_4_and_named() {
    let home = home();
    std::fs::create_dir(home.path().join("run")).unwrap();
    std::fs::write(home.path().join("run/queen.pid"), "no pid at all\n").unwrap();
    keeper(home.path()).arg("status").assert().code(4).stderr(predicate::str::contains("queen.pid"));
    let (code, error) = json_of(keeper(home.path()).args(["status", "--json"]));
    assert_eq!((code, error["error"]["code"].as_str()), (4, Some("pid_file")));
}

#[test]
fn down_is_idempotent() {
    let home = home();
    for _ in 0..2 {
        keeper(home.path()).arg("down").assert().success().stderr(predicate::str::contains("nothing was running"));
    }
    let (code, answer) = json_of(keeper(home.path()).args(["down", "--json"]));
    assert_eq!((code, &answer["changed"]), (0, &Value::Bool(false)));
}

#[test]
fn verbs_without_a_daemon_are_69() {
    let home = home();
    write_config(&home, "[queen]\nlisten = \"127.0.0.1:1\"\n");
    for args in [
        &["worker", "list"][..],
        &["worker", "start", "a"],
        &["worker", "scale", "a", "2"],
        &["worker", "logs", "a"],
        &["hive", "list"],
        &["infer", "--model", "m", "hello"],
    ] {
        keeper(home.path()).args(args).assert().code(69).stderr(
            predicate::str::contains("error: no answer from http://127.0.0.1:1")
                .and(predicate::str::contains("hint: ")),
        );
    }
    let (code, error) = json_of(keeper(home.path()).args(["worker", "list", "--json"]));
    assert_eq!((code, error["error"]["code"].as_str()), (69, Some("unreachable")));
    keeper(home.path()).args(["worker", "list", "--hive", "http://127.0.0.1:1"]).assert().code(69);
    keeper(home.path())
        .env("RBEE_QUEEN", "http://127.0.0.1:2")
        .args(["hive", "list"])
        .assert()
        .code(69)
        .stderr(predicate::str::contains("http://127.0.0.1:2"));
}

#[test]
fn a_wrong_configuration_is_78_with_line_and_nearest_name() {
    let home = home();
    write_config(&home, "role = \"master\"\n[worker.a]\nmodle = \"m\"\ncommand = [\"x\"]\nstop_timeout = \"0s\"\n");
    let file = home.path().join("rbee.toml");
    keeper(home.path()).args(["config", "check"]).assert().code(78).stdout("").stderr(
        predicate::str::contains(format!("error: unknown key `modle` at {}:3; did you mean `model`?", file.display()))
            .and(predicate::str::contains(format!("`worker.a.stop_timeout` must not be 0 at {}:5", file.display()))),
    );
    let (code, error) = json_of(keeper(home.path()).args(["config", "check", "--json"]));
    assert_eq!(code, 78);
    assert_eq!(error["error"]["problems"][0]["line"], 3);
    assert_eq!(error["error"]["problems"][1]["key"], "worker.a.stop_timeout");
    keeper(home.path()).args(["up"]).assert().code(78);
    keeper(home.path()).args(["config", "check", "--config", "/no/such.toml"]).assert().code(78);
    keeper(home.path()).env("RBEE_CONFIG", "/no/such.toml").arg("status").assert().code(78);
}

#[test]
fn keys_that_do_nothing_yet_are_told() {
    let home = home();
    write_config(
        &home,
        "role = \"worker\"\n[model.m]\nsource = \"file:/m\"\n[worker.a]\ncommand = [\"x\"]\nmodel = \"m\"\nidle_ttl = \"10m\"\n",
    );
    keeper(home.path())
        .args(["config", "check"])
        .assert()
        .success()
        .stderr(predicate::str::contains("warning: `worker.a.idle_ttl` is understood, but has no effect"));
}

#[test]
fn other_machines_are_not_let_in_without_a_token() {
    let home = home();
    write_config(&home, "[queen]\nlisten = \"0.0.0.0:7833\"\n");
    keeper(home.path()).args(["config", "check"]).assert().code(78).stderr(predicate::str::contains("`queen.listen`"));
    keeper(home.path()).env("RBEE_TOKEN", "0123456789abcdef").args(["config", "check"]).assert().success();
}

#[test]
fn init_writes_a_sound_file_and_a_private_token_once() {
    let home = home();
    let config = home.path().join("rbee.toml");
    keeper(home.path()).args(["config", "init"]).assert().success();
    let text = std::fs::read_to_string(&config).unwrap();
    let token = std::fs::read_to_string(home.path().join("token")).unwrap();
    keeper(home.path()).args(["config", "init"]).assert().success();
    assert_eq!(std::fs::read_to_string(home.path().join("token")).unwrap(), token);
    keeper(home.path()).args(["config", "check"]).assert().success();
    std::fs::write(&config, "role = \"leecher\"\n").unwrap();
    keeper(home.path()).args(["config", "init"]).assert().code(1).stderr(predicate::str::contains("--force"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "role = \"leecher\"\n", "kept");
    keeper(home.path()).args(["config", "init", "--force"]).assert().success();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), text);
    let (_, paths) = json_of(keeper(home.path()).args(["config", "path", "--json"]));
    assert_eq!(paths["config_file"], config.to_str().unwrap());
    keeper(home.path()).args(["config", "path"]).assert().success().stdout(format!("{}\n", config.display()));
}

#[test]
fn what_show_prints_is_a_configuration() {
    let home = home();
    let shown = keeper(home.path()).args(["config", "show"]).assert().success().get_output().stdout.clone();
    std::fs::write(home.path().join("rbee.toml"), shown).unwrap();
    keeper(home.path()).args(["config", "check"]).assert().success();
    let (_, json) = json_of(keeper(home.path()).args(["config", "show", "--json"]));
    assert_eq!(json["hive"]["ports"], "7855-7899");
}

#[test]
fn a_leecher_starts_nothing() {
    let home = home();
    write_config(&home, "role = \"leecher\"\n");
    keeper(home.path()).arg("up").assert().success().stderr(predicate::str::contains("nothing starts by itself"));
    assert!(!home.path().join("run").exists());
}

#[test]
fn models_are_listed_removed_and_a_wrong_digest_is_refused() {
    let home = home();
    let file = home.path().join("m.gguf");
    std::fs::write(&file, "weights").unwrap();
    let sound = "9b3dfd6b4ea0e84b3a3f3dd4a0e8b5c6";
    write_config(
        &home,
        &format!(
            "[model.here]\nsource = \"file:{path}\"\n[model.wrong]\nsource = \"file:{path}\"\nsha256 = \"{sound}{sound}\"\n\
             [model.gone]\nsource = \"file:{path}.gone\"\n",
            path = file.display()
        ),
    );
    let (code, pulled) = json_of(keeper(home.path()).args(["model", "pull", "here", "--json"]));
    assert_eq!((code, pulled["path"].as_str()), (0, file.to_str()));
    let (code, error) = json_of(keeper(home.path()).args(["model", "pull", "wrong", "--json"]));
    assert_eq!((code, error["error"]["code"].as_str()), (1, Some("model")));
    let message = error["error"]["message"].as_str().unwrap();
    let actual = "9a129038d9a00aed";
    assert!(message.contains(sound) && message.contains(actual), "{message}");
    keeper(home.path())
        .args(["model", "pull", "gone"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("m.gguf.gone"));
    keeper(home.path())
        .args(["model", "pull", "none"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("no model `none`"));
    let (_, list) = json_of(keeper(home.path()).args(["model", "list", "--json"]));
    assert_eq!(list["models"].as_array().unwrap().len(), 3);
    keeper(home.path()).args(["model", "rm", "here"]).assert().success();
    assert!(file.exists(), "a file of the user's is never removed");
    keeper(home.path()).args(["model", "rm", "none"]).assert().code(1);
}

#[test]
fn a_missing_queen_binary_says_where_it_was_looked_for() {
    let home = home();
    // A copy of keeper alone in a folder has no queen beside it.
    let alone = home.path().join("rbee-keeper");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("rbee-keeper"), &alone).unwrap();
    write_config(&home, "[queen]\nlisten = \"127.0.0.1:0\"\n");
    let mut command = Command::new(&alone);
    command.env_clear().env("PATH", "/nowhere").env("RBEE_HOME", home.path()).args(["queen", "start"]);
    command.assert().code(1).stderr(
        predicate::str::contains("queen-rbee")
            .and(predicate::str::contains("/nowhere"))
            .and(predicate::str::contains(home.path().to_str().unwrap())),
    );
}

#[test]
fn completions_name_the_verbs() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        keeper(home.path()).args(["completions", shell]).assert().success().stdout(predicate::str::contains("scale"));
    }
    keeper(home.path()).args(["completions", "cobol"]).assert().code(64);
}

#[test]
fn without_any_home_it_says_what_to_set() {
    let mut command = Command::cargo_bin("rbee-keeper").unwrap();
    command.env_clear().arg("status").assert().code(78).stderr(predicate::str::contains("set RBEE_HOME"));
}
