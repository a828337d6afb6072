//! A table for each rule, and the properties of all of them together.

use std::path::Path;

use rbee_api::report::Report;
use rbee_runtime::config::Config;
use serde_json::json;

use super::super::{Machine, Proposal, advise, apply, propose};

const GIB: u64 = 1 << 30;

pub(crate) fn machine(cores: u32) -> Machine {
    Machine {
        cores,
        memory_bytes: 64 * GIB,
        memlock_bytes: 0,
        nofile_hard: 4096,
        limits_memory: true,
        is_rotational: false,
        huge_pages: Some("madvise".into()),
        model_bytes: [("small".into(), GIB / 10), ("big".into(), 4 * GIB)].into(),
    }
}

fn file(workers: &str) -> String {
    format!("[model.small]\nsource = \"file:/s.gguf\"\n[model.big]\nsource = \"file:/b.gguf\"\n{workers}")
}

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("rbee.toml")).unwrap()
}

/// A week of a worker's replica 0, known for a day.
fn daemon(name: &str, cpu: f64, memory: u64, start_ms: u64, causes: &[(&str, u64)]) -> serde_json::Value {
    let usage = |peak: f64| json!({ "average": peak / 2.0, "peak": peak, "peak_at": "2026-01-01T00:00:00Z" });
    let causes: Vec<_> = causes.iter().map(|(cause, count)| json!({ "cause": cause, "count": count })).collect();
    json!({ "hive": "local", "name": format!("{name}/0"),
        "availability": { "percent": 99.0, "up_ms": 86_400_000, "starting_ms": 0, "down_ms": 0, "off_ms": 0, "unknown_ms": 0 },
        "restarts": { "total": causes.len(), "causes": causes, "newest": [] },
        "cpu_percent": usage(cpu), "memory_bytes": usage(memory as f64),
        "slowest_starts": [{ "at": "2026-01-01T00:00:00Z", "took_ms": start_ms, "incarnation": 1 }],
        "health_failures": { "total": 0, "newest": [] },
        "series": { "up": [], "off": [], "cpu_percent": [], "memory_bytes": [] } })
}

/// Requests for a model, all in one step of two hours, each taking so long.
fn model(name: &str, requests: u32, latency_ms: f64) -> serde_json::Value {
    json!({ "name": name, "requests": requests, "errors": 0, "abandoned": 0,
        "latency_ms": { "p50": latency_ms, "p95": latency_ms, "p99": latency_ms }, "first_token_ms": null,
        "prompt_tokens": 0, "completion_tokens": 0,
        "series": { "requests": [requests], "errors": [0], "p95_ms": [latency_ms] } })
}

fn report(daemons: Vec<serde_json::Value>, models: Vec<serde_json::Value>) -> Report {
    let report = json!({ "period": "week", "from": "2026-01-01T00:00:00Z", "to": "2026-01-08T00:00:00Z", "step_s": 7200,
        "sources": ["local"], "missing": [], "notes": [], "daemons": daemons, "models": models });
    serde_json::from_value(report).unwrap()
}

fn told(proposals: &[Proposal]) -> Vec<String> {
    proposals.iter().map(|proposal| format!("{} = {}", proposal.key, proposal.to)).collect()
}

fn of(machine: &Machine, workers: &str, history: Option<&Report>) -> Vec<String> {
    told(&propose(machine, &config(&file(workers)), history))
}

/// ADVI-31
#[test]
fn threads_are_fewer_than_cores_and_shared() {
    const BIG: &str = "[worker.b]\nmodel = \"big\"\n";
    for (cores, workers, expected) in [
        (8, BIG.to_owned(), vec![]),
        (8, format!("{BIG}threads = 8\n"), vec!["worker.b.threads = 7"]),
        (8, format!("{BIG}threads = 7\n"), vec![]),
        // Two of them, seven threads each: as the default for one would have it.
        (8, format!("{BIG}replicas = 2\n"), vec!["worker.b.threads = 3"]),
        (8, format!("{BIG}threads = 8\n[worker.s]\nmodel = \"small\"\nreplicas = 4\n"), vec!["worker.b.threads = 3"]),
        (1, format!("{BIG}threads = 1\nlimits = {{ nice = 1 }}\n"), vec![]),
        // Somebody else's threads are not ours to count.
        (2, "[worker.x]\ncommand = [\"x\"]\nmodel = \"big\"\n".to_owned(), vec![]),
    ] {
        assert_eq!(of(&machine(cores), &workers, None), expected, "{cores} cores, {workers}");
    }
}

/// ADVI-31
#[test]
fn an_engine_out_of_breath_gets_threads_that_are_free() {
    let workers = "[worker.b]\nmodel = \"big\"\nthreads = 2\nlimits = { memory_max = \"9GiB\" }\n";
    for (cpu, expected) in [(199.0, vec!["worker.b.threads = 7"]), (120.0, vec![]), (700.0, vec![])] {
        let report = report(vec![daemon("b", cpu, 0, 0, &[])], vec![]);
        let found = of(&machine(8), workers, Some(&report));
        assert_eq!(found, expected, "{cpu} %");
    }
}

/// ADVI-31
#[test]
fn slots_follow_the_requests_that_were_under_way_at_once() {
    let workers = "[worker.s]\nmodel = \"small\"\nslots = 4\n";
    for (requests, latency_ms, expected) in [
        (7200, 1000.0, vec![]),
        (7200, 5000.0, vec!["worker.s.slots = 8"]),
        (7200, 60_000.0, vec!["worker.s.slots = 16"]),
        (99, 600_000.0, vec![]),
    ] {
        let report = report(vec![], vec![model("small", requests, latency_ms)]);
        assert_eq!(of(&machine(8), workers, Some(&report)), expected, "{requests} of {latency_ms} ms");
    }
}

/// ADVI-32
#[test]
fn engines_that_can_take_every_core_step_back() {
    let workers = "[worker.s]\nmodel = \"small\"\nreplicas = 2\n";
    assert_eq!(of(&machine(2), workers, None), ["worker.s.limits.nice = 5"]);
    assert_eq!(of(&machine(4), workers, None), [""; 0]);
    assert_eq!(of(&machine(2), &format!("{workers}limits = {{ nice = 0 }}\n"), None), [""; 0]);
}

/// ADVI-32
#[test]
fn large_models_on_a_disk_that_turns_are_read_after_the_others() {
    let workers = "[worker.b]\nmodel = \"big\"\n[worker.s]\nmodel = \"small\"\n[worker.x]\ncommand = [\"x\"]\nlimits = { nofile = 9999 }\n";
    let turning = Machine { is_rotational: true, ..machine(16) };
    let found = of(&turning, workers, None);
    assert!(found.contains(&"worker.b.limits.io = \"low\"".to_owned()), "{found:?}");
    assert!(found.contains(&"worker.x.limits.nofile = 4096".to_owned()), "{found:?}");
    assert!(!of(&machine(16), workers, None).iter().any(|proposal| proposal.contains("limits.io")));
}

/// ADVI-32
#[test]
fn memory_is_bounded_by_what_was_used() {
    let of_limits = |limits: &str, machine: &Machine, peak: u64| {
        let workers = format!("[worker.x]\ncommand = [\"x\"]\nlimits = {limits}\n");
        of(machine, &workers, Some(&report(vec![daemon("x", 1.0, peak, 0, &[])], vec![])))
    };
    for (limits, peak, expected) in [
        ("{}", GIB, vec!["worker.x.limits.memory_max = \"1536MiB\""]),
        ("{}", 1 << 20, vec!["worker.x.limits.memory_max = \"128MiB\""]),
        ("{ memory_max = \"2GiB\" }", GIB, vec![]),
        ("{ memory_max = \"1GiB\" }", GIB, vec!["worker.x.limits.memory_max = \"1536MiB\""]),
        ("{ memory_restart = \"2GiB\" }", GIB, vec!["worker.x.limits.memory_max = \"2560MiB\""]),
        // More than the machine has bounds nothing.
        ("{}", 62 * GIB, vec![]),
    ] {
        assert_eq!(of_limits(limits, &machine(8), peak), expected, "{limits} {peak}");
    }
    let without = Machine { limits_memory: false, ..machine(8) };
    assert_eq!(of_limits("{}", &without, GIB), [""; 0]);
    assert!(
        advise(&without, &config(&file("[worker.x]\ncommand = [\"x\"]\n")))
            .iter()
            .any(|a| a.command.contains("service"))
    );
}

/// ADVI-33
#[test]
fn back_off_grows_with_crashes_that_nobody_ordered() {
    let crash = "it exited with code 1";
    for (causes, restart, expected) in [
        (vec![(crash, 4)], "{}", vec![]),
        (vec![("asked for", 50)], "{}", vec![]),
        (vec![(crash, 5)], "{}", vec!["worker.x.restart.backoff_min = \"5s\""]),
        (
            vec![(crash, 20)],
            "{}",
            vec!["worker.x.restart.backoff_max = \"5m\"", "worker.x.restart.backoff_min = \"5s\""],
        ),
        (vec![(crash, 9)], "{ backoff_min = \"10s\" }", vec![]),
        (
            vec![(crash, 9)],
            "{ backoff_min = \"1s\", backoff_max = \"2s\" }",
            vec!["worker.x.restart.backoff_max = \"5s\"", "worker.x.restart.backoff_min = \"5s\""],
        ),
    ] {
        let workers =
            format!("[worker.x]\ncommand = [\"x\"]\nlimits = {{ memory_max = \"1GiB\" }}\nrestart = {restart}\n");
        let report = report(vec![daemon("x", 1.0, 1, 0, &causes)], vec![]);
        assert_eq!(of(&machine(8), &workers, Some(&report)), expected, "{causes:?} {restart}");
    }
}

/// ADVI-33
#[test]
fn a_start_that_was_slow_is_given_time() {
    for (took_ms, timeout, expected) in [
        (14_000, "", vec![]),
        (20_000, "", vec!["worker.x.start_timeout = \"1m\""]),
        (20_000, "start_timeout = \"45s\"\n", vec![]),
        (61_000, "start_timeout = \"90s\"\n", vec!["worker.x.start_timeout = \"3m 5s\""]),
    ] {
        let workers = format!("[worker.x]\ncommand = [\"x\"]\nlimits = {{ memory_max = \"1GiB\" }}\n{timeout}");
        let report = report(vec![daemon("x", 1.0, 1, took_ms, &[])], vec![]);
        assert_eq!(of(&machine(8), &workers, Some(&report)), expected, "{took_ms} {timeout}");
    }
}

/// ADVI-35
#[test]
fn a_model_that_is_to_stay_is_locked_where_there_is_room_and_leave() {
    let may = Machine { memlock_bytes: u64::MAX, ..machine(16) };
    let workers = |rest: &str| format!("[worker.b]\nmodel = \"big\"\n{rest}");
    for (machine, rest, expected) in [
        (may.clone(), "", vec!["worker.b.mlock = true"]),
        (may.clone(), "idle_ttl = \"1m\"\n", vec![]),
        (may.clone(), "mlock = true\n", vec![]),
        // A quarter of memory at most: mapped once, or a copy for each.
        (may.clone(), "replicas = 5\nthreads = 1\n", vec!["worker.b.mlock = true"]),
        (may.clone(), "replicas = 5\nthreads = 1\nmmap = false\n", vec![]),
        (Machine { memory_bytes: 8 * GIB, ..may.clone() }, "", vec![]),
        (Machine { memlock_bytes: GIB, ..may.clone() }, "", vec![]),
    ] {
        assert_eq!(of(&machine, &workers(rest), None), expected, "{rest} {machine:?}");
    }
    let never = Machine { huge_pages: Some("never".into()), ..machine(16) };
    let told = |rest: &str| advise(&never, &config(&file(&workers(rest)))).len();
    assert_eq!((told(""), told("mmap = false\n")), (0, 1));
}

/// ADVI-36
#[test]
fn a_machine_that_runs_none_of_its_own_gets_no_proposal() {
    let workers = file("[worker.b]\nmodel = \"big\"\nthreads = 99\n");
    let report = report(vec![daemon("b", 9900.0, GIB, 999_000, &[])], vec![]);
    for head in ["role = \"leecher\"\n", "role = \"worker\"\nhive = { queen = \"http://10.0.0.5:7833\" }\n"] {
        assert_eq!(propose(&machine(8), &config(&format!("{head}{workers}")), Some(&report)), []);
    }
    // What is known of another hive, or of less than an hour, is no history of this one.
    let mut elsewhere = daemon("b", 100.0, GIB, 1, &[]);
    elsewhere["hive"] = json!("attic");
    let mut new = daemon("b", 100.0, GIB, 1, &[]);
    new["availability"]["up_ms"] = json!(60_000);
    for daemon in [elsewhere, new] {
        let is_new = daemon["availability"]["up_ms"] == 60_000;
        let history = super::tests::report(vec![daemon], vec![]);
        assert_eq!(super::super::is_known_long(&history), !is_new);
        assert_eq!(of(&machine(8), "[worker.b]\nmodel = \"big\"\n", Some(&history)), [""; 0]);
    }
}

/// ADVI-30: for many machines, configurations and histories: no key twice, each value another one than there is, the result is
/// sound, and proposes nothing more.
#[test]
fn what_is_applied_proposes_nothing_new() {
    let mut random = 7_u64;
    let mut below = move |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    let mut proposed = 0;
    for round in 0..600 {
        let machine = Machine {
            cores: 1 + below(32) as u32,
            memory_bytes: GIB << below(8),
            memlock_bytes: if below(2) == 0 { 0 } else { u64::MAX },
            nofile_hard: 64 << below(10),
            limits_memory: below(3) > 0,
            is_rotational: below(2) == 0,
            ..machine(1)
        };
        let mut workers = String::new();
        let mut daemons = Vec::new();
        for at in 0..1 + below(4) {
            let kind = ["model = \"big\"", "model = \"small\"", "command = [\"x\"]"][below(3) as usize];
            workers += &format!("[worker.w{at}]\n{kind}\nreplicas = {}\n", below(5));
            if kind.starts_with("model") && below(2) == 0 {
                workers += &format!("threads = {}\n", 1 + below(32));
            }
            if below(2) == 0 {
                workers += &format!("slots = {}\n", 1 + below(20));
            }
            if below(2) == 0 {
                workers += &format!(
                    "limits = {{ memory_restart = \"{}MiB\", nofile = {} }}\n",
                    1 + below(100_000),
                    16 + below(100_000)
                );
            }
            if below(3) == 0 {
                workers += &format!(
                    "restart = {{ backoff_min = \"{}s\", backoff_max = \"{}s\" }}\n",
                    below(9),
                    9 + below(400)
                );
            }
            let (cpu, memory) = (below(3300) as f64, below(70 * GIB));
            daemons.push(daemon(&format!("w{at}"), cpu, memory, below(400_000), &[("signal 9 ended it", below(40))]));
        }
        let report =
            report(daemons, vec![model("big", below(9000) as u32, below(90_000) as f64), model("small", 200, 9e5)]);
        let text = file(&workers);
        let before = config(&text);
        let proposals = propose(&machine, &before, Some(&report));
        let keys: std::collections::BTreeSet<&str> = proposals.iter().map(|proposal| proposal.key.as_str()).collect();
        assert_eq!(keys.len(), proposals.len(), "round {round}: {proposals:#?}");
        assert!(
            proposals.iter().all(|proposal| proposal.from.as_ref() != Some(&proposal.to)),
            "round {round}: {proposals:#?}"
        );
        assert!(proposals.iter().all(|proposal| !proposal.reason.is_empty() && !proposal.effect.is_empty()));
        let after = apply(&text, &proposals, Path::new("rbee.toml")).unwrap_or_else(|error| {
            panic!("round {round}: {}\n{text}\n{proposals:#?}", rbee_runtime::error_chain(&error))
        });
        let again = propose(&machine, &config(&after), Some(&report));
        assert_eq!(told(&again), [""; 0], "round {round}: {machine:?}\n{text}\nfirst: {:?}", told(&proposals));
        proposed += proposals.len();
    }
    assert!(proposed > 600, "the rounds show something: {proposed}");
}
