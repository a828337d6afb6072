//! What a machine starts, and what has no effect there.

use super::super::Role;
use super::{parse, problems, wanted};

/// CONF-08
#[test]
fn roles_profiles_and_auto_start_choose_what_starts() {
    let text = |head: &str| {
        format!(
            "{head}\n[worker.a]\ncommand = [\"x\"]\n[worker.b]\ncommand = [\"x\"]\nprofiles = [\"small\"]\n\
             [worker.c]\ncommand = [\"x\"]\nauto_start = true\n[worker.d]\ncommand = [\"x\"]\nauto_start = false\n\
             [profiles]\nbig = [\"*\"]\n"
        )
    };
    for (head, profile, expected) in [
        ("", None, vec!["a", "b", "c"]),
        ("", Some("small"), vec!["b", "c"]),
        ("profile = \"small\"", None, vec!["b", "c"]),
        ("profile = \"small\"", Some("big"), vec!["a", "b", "c"]),
        ("role = \"leecher\"", None, vec!["c"]),
    ] {
        assert_eq!(wanted(&parse(&text(head)), profile), expected, "{head} {profile:?}");
    }
    let worker = parse("role = \"worker\"");
    assert_eq!((worker.role, worker.starts_queen(), worker.starts_hive()), (Role::Worker, false, true));
    let leecher = parse("role = \"leecher\"\n[queen]\nauto_start = true");
    assert!(leecher.starts_queen() && !leecher.starts_hive());
    // A daemon of masters alone, and what says otherwise about it.
    for (role, keys, starts) in [
        ("master", "", true),
        ("worker", "", false),
        ("leecher", "", false),
        ("worker", "auto_start = true", true),
        ("leecher", "auto_start = true", true),
        ("master", "auto_start = false", false),
    ] {
        let text = format!("role = \"{role}\"\n[worker.a]\ncommand = [\"x\"]\nroles = [\"master\"]\n{keys}\n");
        let config = parse(&text);
        assert_eq!(!wanted(&config, None).is_empty(), starts, "{text}");
        assert_eq!(config.starts_hive(), starts || role != "leecher", "{text}");
    }
}

#[test]
fn how_a_model_is_kept_in_memory_is_for_our_engine_alone() {
    let text = "[model.m]\nsource = \"file:/m.gguf\"\n[worker.own]\nmodel = \"m\"\nmlock = true\nmmap = false\n";
    let engine = parse(text).worker["own"].to_spec().engine;
    assert!(matches!(engine, rbee_api::assignment::Engine::Llm { mlock: true, no_mmap: true, .. }), "{engine:?}");
    let found = problems("[worker.a]\ncommand = [\"x\"]\nmlock = true\nmmap = false\n");
    let keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["worker.a.mlock", "worker.a.mmap"]);
}

/// ADVI-02
#[test]
fn each_daemon_overrides_the_role() {
    const WORKER: &str = "[worker.a]\ncommand = [\"x\"]\n";
    for (head, worker_start, queen, hive, workers) in [
        ("role = \"master\"", "", true, true, 1),
        ("role = \"master\"", "auto_start = false", true, true, 0),
        ("role = \"master\"\n[hive]\nauto_start = false", "", true, false, 1),
        ("role = \"master\"\n[queen]\nauto_start = false", "", false, true, 1),
        ("role = \"worker\"", "", false, true, 1),
        ("role = \"worker\"\n[queen]\nauto_start = true", "", true, true, 1),
        ("role = \"leecher\"", "", false, false, 0),
        ("role = \"leecher\"", "auto_start = true", false, true, 1),
        ("role = \"leecher\"\n[hive]\nauto_start = false", "auto_start = true", false, false, 1),
        ("role = \"leecher\"\n[hive]\nauto_start = true", "", false, true, 0),
    ] {
        let config = parse(&format!("{head}\n{WORKER}{worker_start}\n"));
        let starts = (config.starts_queen(), config.starts_hive(), wanted(&config, None).len());
        assert_eq!(starts, (queen, hive, workers), "{head} {worker_start}");
    }
}

/// ADVI-03
#[test]
fn workers_of_a_machine_whose_queen_is_elsewhere_have_no_effect_there() {
    for (role, url, elsewhere) in [
        ("worker", "http://10.0.0.5:7833", true),
        ("worker", "http://localhost:7833", false),
        ("worker", "http://[::1]:7833", false),
        ("master", "http://10.0.0.5:7833", false),
    ] {
        let text = format!("role = \"{role}\"\n[hive]\nqueen = \"{url}\"\n[worker.a]\ncommand = [\"x\"]\n");
        let config = parse(&text);
        assert_eq!(config.queen_is_elsewhere(), elsewhere, "{role} {url}");
        let named: Vec<String> = config.not_in_force().into_iter().map(|key| key.key).collect();
        assert_eq!(named, if elsewhere { vec!["worker.a".to_owned()] } else { Vec::new() });
    }
}
