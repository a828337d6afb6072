//! What types cannot say: bounds, and names that refer to other tables.

use std::time::Duration;

use bytesize::ByteSize;
use rbee_api::ids::is_valid_name;

use super::document::Document;
use super::hooks;
use super::limits;
use super::monitor;
use super::problem::did_you_mean;
use super::schema::{Config, WorkerConfig};
use super::values::{Probe, Ready, StopSignal};
use super::{container, dependencies};

/// Most replicas of one worker; each is a process.
pub const REPLICAS_MAX: u32 = 256;
/// What one engine takes.
const SLOTS_MAX: u32 = 256;
const CONTEXT_MAX: u32 = 1 << 20;
const THREADS_MAX: u32 = 512;
/// What a replica of it may keep on disk.
const CACHE_MAX: ByteSize = ByteSize::pib(1);
/// Placeholders that the hive fills into a command.
const PLACEHOLDERS: [&str; 6] = ["port", "model_path", "name", "replica", "run_dir", "state_dir"];

/// Records everything that makes no sense.
pub(super) fn check(config: &Config, document: &mut Document<'_>) {
    check_daemons(config, document);
    check_keys(config, document);
    monitor::check(config, document);
    for name in config.model.keys() {
        check_name(document, &format!("model.{name}"), "model", name);
    }
    for (name, worker) in &config.worker {
        let key = format!("worker.{name}");
        check_name(document, &key, "worker", name);
        check_worker(config, name, worker, &key, document);
        check_bounds(worker, &key, document);
    }
    hooks::check(config, document);
    dependencies::check(config, document);
    check_profiles(config, document);
}

fn check_daemons(config: &Config, document: &mut Document<'_>) {
    check_name(document, "hive.name", "hive", &config.hive.name);
    let (queen, hive) = (&config.queen, &config.hive);
    for (key, value) in [
        ("queen.lease_ttl", queen.lease_ttl),
        ("queen.drain_timeout", queen.drain_timeout),
        ("queen.upgrade_timeout", queen.upgrade_timeout),
        ("queen.upgrade_drain_timeout", queen.upgrade_drain_timeout),
        ("queen.queue_timeout", queen.queue_timeout),
        ("queen.stall_timeout", queen.stall_timeout),
        ("queen.command_stall_timeout", queen.command_stall_timeout),
        ("queen.comment_interval", queen.comment_interval),
        ("queen.body_timeout", queen.body_timeout),
        ("queen.idle_timeout", queen.idle_timeout),
        ("hive.drain_timeout", hive.drain_timeout),
        ("hive.docker_timeout", hive.docker_timeout),
    ] {
        not_zero(document, key, value);
    }
    for (key, value) in [("queen.max_body", queen.max_body), ("hive.max_body", hive.max_body)] {
        if value.as_u64() == 0 {
            document.problem(key, format!("`{key}` must not be 0"), None);
        }
    }
    if queen.max_connections == 0 {
        document.problem("queen.max_connections", "`queen.max_connections` must not be 0", None);
    }
    if queen.attempts_max == 0 {
        document.problem("queen.attempts_max", "`queen.attempts_max` must not be 0: nothing would be asked", None);
    }
    let replicas: u64 = config.worker.values().map(|worker| u64::from(worker.replicas)).sum();
    if replicas > u64::from(hive.workers_max) {
        let message =
            format!("the workers have {replicas} replicas together, `hive.workers_max` allows {}", hive.workers_max);
        document.problem("hive.workers_max", message, None);
    }
    if hive.starts_max == Some(0) {
        document.problem("hive.starts_max", "`hive.starts_max` must not be 0: nothing could start", None);
    }
    if let Some(docker) = hive.docker.as_ref().filter(|docker| !docker.starts_with("unix:///")) {
        let hint = Some("write it like `unix:///var/run/docker.sock`".to_owned());
        document.problem("hive.docker", format!("`{docker}` is no unix socket of a container engine"), hint);
    }
    if let Some(url) = &hive.queen {
        let sound = url.parse::<http::Uri>().is_ok_and(|uri| {
            // A number that is no port parses too.
            let port_is_one = uri.authority().is_some_and(|to| to.port_u16().is_some() || to.as_str() == to.host());
            matches!(uri.scheme_str(), Some("http" | "https")) && port_is_one && uri.path() == "/"
        });
        if !sound {
            let hint = Some("write it like `http://127.0.0.1:7833`".to_owned());
            document.problem("hive.queen", format!("`{url}` is no URL of a queen"), hint);
        }
    }
    if queen.listen == hive.listen && queen.listen.port() != 0 {
        let message = format!("queen and hive cannot both listen on {}", hive.listen);
        document.problem("hive.listen", message, Some("give them different ports".to_owned()));
    }
    for (key, listen) in [("queen.listen", queen.listen), ("hive.listen", hive.listen)] {
        let ports = hive.ports;
        if listen.port() != 0 && (ports.first..=ports.last).contains(&listen.port()) {
            document.problem(key, format!("port {} of `{key}` is inside `hive.ports` ({ports})", listen.port()), None);
        }
    }
}

fn check_keys(config: &Config, document: &mut Document<'_>) {
    for (name, key) in &config.queen.keys {
        let at = format!("queen.keys.{name}");
        check_name(document, &at, "key", name);
        if key.key_sha256.is_some() == key.key_file.is_some() {
            let hint = Some("`printf %s KEY | sha256sum` gives the digest of a key".to_owned());
            document.problem(&at, format!("key `{name}` needs either `key_sha256` or `key_file`"), hint);
        }
        for model in key.models.iter().flatten().filter(|model| !config.model.contains_key(*model)) {
            let hint = did_you_mean(model, config.model.keys().map(String::as_str));
            document.problem(&format!("{at}.models"), format!("key `{name}` names the unknown model `{model}`"), hint);
        }
    }
}

fn check_worker(config: &Config, name: &str, worker: &WorkerConfig, key: &str, document: &mut Document<'_>) {
    match (&worker.model, &worker.command) {
        (None, None) if worker.container.is_none() => {
            let hint =
                Some("give it `model` (our engine), `command` (any program) or `container` (any image)".to_owned());
            document.problem(key, format!("worker `{name}` has nothing to run"), hint);
        }
        (_, Some(command)) if command.first().is_none_or(|program| program.trim().is_empty()) => {
            let hint = Some("write it like `command = [\"PROGRAM\", \"ARGUMENT\"]`".to_owned());
            document.problem(
                &format!("{key}.command"),
                format!("the command of worker `{name}` names no program"),
                hint,
            );
        }
        _ => {}
    }
    if let Some(model) = &worker.model
        && !config.model.contains_key(model)
    {
        let hint = did_you_mean(model, config.model.keys().map(String::as_str))
            .unwrap_or_else(|| format!("add a table `[model.{model}]`"));
        document.problem(
            &format!("{key}.model"),
            format!("worker `{name}` wants the unknown model `{model}`"),
            Some(hint),
        );
    }
    let command = worker.command.iter().flatten().map(|word| ("command", word));
    let container = worker.container.as_ref().and_then(|container| container.args.as_ref());
    let words = command.chain(container.into_iter().flatten().map(|word| ("container.args", word)));
    for (field, placeholder) in words.flat_map(|(field, word)| placeholders(word).map(move |found| (field, found))) {
        if placeholder == "model_path" && worker.model.is_none() {
            let hint = Some("give it `model`".to_owned());
            document.problem(
                &format!("{key}.{field}"),
                format!("worker `{name}` uses {{model_path}} but has no model"),
                hint,
            );
        } else if !PLACEHOLDERS.contains(&placeholder)
            && let Some(hint) = did_you_mean(placeholder, PLACEHOLDERS)
        {
            // Braces are common in arguments (JSON, formats): only what looks like a slip is refused.
            document.problem(
                &format!("{key}.{field}"),
                format!("unknown placeholder {{{placeholder}}} in `{field}` of worker `{name}`"),
                Some(hint),
            );
        }
    }
    check_process(name, worker, key, document);
    container::check(name, worker, key, document);
    let by_unix = |ready: &Ready| matches!(ready, Ready::Probe(Probe::Unix { .. } | Probe::HttpUnix { .. }));
    if worker.is_engine() && worker.ready.as_ref().is_some_and(by_unix) {
        document.problem(&format!("{key}.ready"), "our engine listens on no unix socket", None);
    }
}

/// What a process of any command can be asked for.
fn check_process(name: &str, worker: &WorkerConfig, key: &str, document: &mut Document<'_>) {
    let at = |field: &str| format!("{key}.{field}");
    if worker.stop_signal == StopSignal::Kill {
        let message =
            format!("`{}` cannot be `KILL`: that asks nothing, it ends everything at once", at("stop_signal"));
        let hint = "what is still there after `stop_timeout` is killed in any case".to_owned();
        document.problem(&at("stop_signal"), message, Some(hint));
    }
    if let Some(file) = &worker.pid_file
        && worker.replicas > 1
        && !file.to_string_lossy().contains("{replica}")
    {
        let message = format!("the {} replicas of worker `{name}` cannot share one PID file", worker.replicas);
        document.problem(&at("pid_file"), message, Some("put `{replica}` into it".to_owned()));
    }
    let own =
        [("forking", worker.forking), ("listen", worker.listen.is_some()), ("watchdog", worker.watchdog.is_some())];
    if worker.is_engine() {
        for (field, _) in own.into_iter().filter(|(_, set)| *set) {
            document.problem(
                &at(field),
                format!("`{field}` of worker `{name}` is for a `command`, not for our engine"),
                None,
            );
        }
    }
    for (field, _) in [("mlock", worker.mlock), ("mmap", !worker.mmap)].into_iter().filter(|(_, set)| *set) {
        if !worker.is_engine() {
            let message = format!("`{field}` of worker `{name}` is for our engine, which alone knows how to do that");
            document.problem(&at(field), message, None);
        }
    }
    if worker.forking && worker.pid_file.is_none() {
        let message = format!("worker `{name}` is `forking`, but no `pid_file` says where its daemon writes its PID");
        document.problem(&at("forking"), message, None);
    }
    if worker.forking && (worker.listen.is_some() || worker.watchdog.is_some()) {
        let message = format!("worker `{name}` is `forking`: a socket or a watchdog would not reach its daemon");
        document.problem(&at("forking"), message, None);
    }
    if let Some(listen) = &worker.listen
        && listen.replace("{port}", "1").parse::<std::net::SocketAddr>().is_err()
    {
        let message = format!("`{listen}` is no address to listen on");
        document.problem(&at("listen"), message, Some("write it like `127.0.0.1:{port}`".to_owned()));
    }
    if let Some(listen) = &worker.listen
        && worker.replicas > 1
        && !listen.contains("{port}")
        && !listen.ends_with(":0")
    {
        let message = format!("the {} replicas of worker `{name}` cannot all listen on {listen}", worker.replicas);
        document.problem(&at("listen"), message, Some("write it like `127.0.0.1:{port}`".to_owned()));
    }
}

fn check_bounds(worker: &WorkerConfig, key: &str, document: &mut Document<'_>) {
    let at = |field: &str| format!("{key}.{field}");
    let within = |document: &mut Document<'_>, field: &str, value: u32, min: u32, max: u32| {
        if !(min..=max).contains(&value) {
            document.problem(&at(field), format!("`{}` must be {min} to {max}, not {value}", at(field)), None);
        }
    };
    within(document, "replicas", worker.replicas, 0, REPLICAS_MAX);
    within(document, "slots", worker.slots, 1, SLOTS_MAX);
    within(document, "context", worker.context, 16, CONTEXT_MAX);
    if let Some(threads) = worker.threads {
        within(document, "threads", threads, 1, THREADS_MAX);
    }
    let kept = worker.cache_max.as_u64();
    if kept > CACHE_MAX.as_u64() || !kept.is_multiple_of(ByteSize::mib(1).as_u64()) {
        let message = format!("`{}` must be whole MiB, at most {CACHE_MAX}, not {}", at("cache_max"), worker.cache_max);
        document.problem(&at("cache_max"), message, None);
    }
    let optional =
        [("start_timeout", worker.start_timeout), ("idle_ttl", worker.idle_ttl), ("watchdog", worker.watchdog)];
    for (field, value) in optional {
        if let Some(value) = value {
            not_zero(document, &at(field), value);
        }
    }
    if worker.idle_ttl.is_some() && worker.model.is_none() {
        let message = format!("`{}` needs a `model`: whether a worker is used is seen by its requests", at("idle_ttl"));
        document.problem(&at("idle_ttl"), message, None);
    }
    not_zero(document, &at("stop_timeout"), worker.stop_timeout);
    if let Some(health) = &worker.health {
        not_zero(document, &at("health.interval"), health.interval);
        not_zero(document, &at("health.timeout"), health.timeout);
        within(document, "health.failures", health.failures, 1, 1000);
    }
    let restart = &worker.restart;
    not_zero(document, &at("restart.within"), restart.within);
    not_zero(document, &at("restart.reset_after"), restart.reset_after);
    ordered(document, &at("restart"), ("backoff_min", restart.backoff_min), ("backoff_max", restart.backoff_max));
    limits::check(&worker.limits, &at("limits"), document);
    if let Some(thresholds) = &worker.thresholds {
        monitor::check_thresholds(thresholds, &at("thresholds"), document);
    }
    not_zero(document, &at("log.max_age"), worker.log.max_age);
    if worker.log.max_size.as_u64() == 0 {
        document.problem(&at("log.max_size"), format!("`{}` must not be 0", at("log.max_size")), None);
    }
}

fn check_profiles(config: &Config, document: &mut Document<'_>) {
    for (profile, members) in &config.profiles {
        let key = format!("profiles.{profile}");
        check_name(document, &key, "profile", profile);
        for member in members.iter().filter(|member| *member != "*" && !config.worker.contains_key(*member)) {
            let hint = did_you_mean(member, config.worker.keys().map(String::as_str));
            document.problem(&key, format!("profile `{profile}` names the unknown worker `{member}`"), hint);
        }
    }
    if let Err(unknown) = config.check_profile(config.profile.as_deref()) {
        document.problem("profile", unknown.to_string(), unknown.hint());
    }
}

fn check_name(document: &mut Document<'_>, key: &str, what: &str, name: &str) {
    if !is_valid_name(name) {
        let hint = Some("use 1 to 64 letters, digits, `-` and `_`".to_owned());
        document.problem(key, format!("`{name}` cannot name a {what}"), hint);
    }
}

fn not_zero(document: &mut Document<'_>, key: &str, value: Duration) {
    if value.is_zero() {
        document.problem(key, format!("`{key}` must not be 0"), None);
    }
}

fn ordered<T: PartialOrd>(document: &mut Document<'_>, table: &str, low: (&str, T), high: (&str, T)) {
    if low.1 > high.1 {
        let key = format!("{table}.{}", low.0);
        document.problem(&key, format!("`{}` of `{table}` is above `{}`", low.0, high.0), None);
    }
}

/// The words in single braces of an argument.
fn placeholders(argument: &str) -> impl Iterator<Item = &str> {
    argument
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(word, _)| word)
        .filter(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}
