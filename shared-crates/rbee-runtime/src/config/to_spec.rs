//! From the file's tables to what is told to a hive: which workers, and each with its defaults filled in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rbee_api::ModelSpec;
use rbee_api::assignment::{Engine, HealthSpec, LimitsSpec, LogSpec, RestartSpec, WorkerSpec};

use super::monitor::ThresholdsConfig;
use super::problem::did_you_mean;
use super::schema::{Config, HealthConfig, LimitsConfig, LogConfig, Role, WorkerConfig};
use super::values::{Probe, Ready};

/// Start time-out of our engine, which reads a model of some gigabytes first.
const ENGINE_START_TIMEOUT: Duration = Duration::from_secs(120);
/// Start time-out of any other command.
const COMMAND_START_TIMEOUT: Duration = Duration::from_secs(30);

/// No profile of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile `{name}`")]
pub struct UnknownProfile {
    /// What was asked for.
    pub name: String,
    /// The profiles there are.
    pub known: Vec<String>,
}

impl UnknownProfile {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        did_you_mean(&self.name, self.known.iter().map(String::as_str))
            .or_else(|| (!self.known.is_empty()).then(|| format!("profiles: {}", self.known.join(", "))))
    }
}

impl Config {
    /// Whether `up` starts queen on this machine.
    #[must_use]
    pub fn starts_queen(&self) -> bool {
        self.queen.auto_start.unwrap_or(self.role == Role::Master)
    }

    /// Whether `up` starts this machine's hive: a leecher's only for a worker that starts there all the same.
    #[must_use]
    pub fn starts_hive(&self) -> bool {
        let by_role = matches!(self.role, Role::Master | Role::Worker);
        self.hive.auto_start.unwrap_or_else(|| by_role || !self.wanted_workers(None).is_empty())
    }

    /// Whether the hive of this machine belongs to a queen on another one, who says what runs here.
    #[must_use]
    pub fn queen_is_elsewhere(&self) -> bool {
        let host = |url: &str| url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        let is_here = |host: String| {
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip == self.queen.listen.ip())
        };
        !self.starts_queen() && self.hive.queen.as_deref().and_then(host).is_some_and(|host| !is_here(host))
    }

    /// Every profile that `[profiles]` or a worker names.
    #[must_use]
    pub fn profile_names(&self) -> Vec<String> {
        let of_workers = self.worker.values().flat_map(|worker| &worker.profiles);
        let mut names: Vec<String> = self.profiles.keys().chain(of_workers).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// Refuses a profile that nothing names.
    ///
    /// # Errors
    /// [`UnknownProfile`] with the known ones.
    pub fn check_profile(&self, profile: Option<&str>) -> Result<(), UnknownProfile> {
        let known = self.profile_names();
        match profile {
            Some(name) if !known.iter().any(|k| k == name) => Err(UnknownProfile { name: name.to_owned(), known }),
            _ => Ok(()),
        }
    }

    /// The workers that start by themselves: those of the profile (all, without one) whose `roles` name this machine's, each
    /// overridden by its own `auto_start`, and what they depend on. A leecher starts only what names it, or says
    /// `auto_start = true`.
    #[must_use]
    pub fn wanted_workers(&self, profile: Option<&str>) -> BTreeSet<&str> {
        let profile = profile.or(self.profile.as_deref());
        let listed: BTreeSet<&str> =
            profile.and_then(|name| self.profiles.get(name)).into_iter().flatten().map(String::as_str).collect();
        let in_profile = |name: &str, worker: &WorkerConfig| {
            let Some(profile) = profile else { return true };
            listed.contains("*") || listed.contains(name) || worker.profiles.iter().any(|p| p == profile)
        };
        let wanted = self.worker.iter().filter(|(name, worker)| {
            worker.auto_start.unwrap_or_else(|| worker.roles.contains(&self.role) && in_profile(name, worker))
        });
        self.with_dependencies(wanted.map(|(name, _)| name.as_str()))
    }

    /// The model called `name`, as it is told to a hive.
    #[must_use]
    pub fn model_spec(&self, name: &str) -> Option<ModelSpec> {
        self.model.get(name).map(|model| ModelSpec {
            name: name.to_owned(),
            source: model.source.to_string(),
            sha256: model.sha256.map(|digest| digest.to_string()),
        })
    }
}

impl WorkerConfig {
    /// Whether it is our own engine.
    #[must_use]
    pub fn is_engine(&self) -> bool {
        self.command.is_none() && self.container.is_none()
    }

    /// The worker with its defaults filled in, as it is told to a hive.
    #[must_use]
    pub fn to_spec(&self) -> WorkerSpec {
        let engine = match (&self.command, &self.container) {
            (_, Some(container)) => Engine::Container(Box::new(container.to_spec())),
            (Some(command), None) => Engine::Command { command: command.clone() },
            (None, None) => Engine::Llm {
                slots: self.slots,
                context: self.context,
                threads: self.threads,
                deterministic: self.deterministic,
                cache_bytes_max: self.cache_max.as_u64(),
                mlock: self.mlock,
                no_mmap: !self.mmap,
            },
        };
        let default_start_timeout = if self.is_engine() { ENGINE_START_TIMEOUT } else { COMMAND_START_TIMEOUT };
        let own_env = self.container.iter().flat_map(|container| &container.env);
        WorkerSpec {
            engine,
            env: self.env.iter().chain(own_env).map(|(name, value)| (name.clone(), value.clone())).collect(),
            working_dir: self.working_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
            pid_file: self.pid_file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            start_timeout_ms: millis(self.start_timeout.unwrap_or(default_start_timeout)),
            start_timeout_grows: self.start_timeout.is_none() && self.model.is_some(),
            stop_timeout_ms: millis(self.stop_timeout),
            stop_signal: self.stop_signal.to_string(),
            ready: self.ready_or_default().to_string(),
            health: self.health_or_default().map(|health| HealthSpec {
                probe: health.probe.to_string(),
                interval_ms: millis(health.interval),
                timeout_ms: millis(health.timeout),
                failures: health.failures,
            }),
            restart: RestartSpec {
                policy: self.restart.policy.as_str().to_owned(),
                backoff_min_ms: millis(self.restart.backoff_min),
                backoff_max_ms: millis(self.restart.backoff_max),
                max_restarts: self.restart.max_restarts,
                within_ms: millis(self.restart.within),
                reset_after_ms: millis(self.restart.reset_after),
            },
            depends_on: self.depends_on.clone(),
            limits: self.limits.to_spec(),
            stale_locks: self.stale_locks.iter().map(|file| file.to_string_lossy().into_owned()).collect(),
            log: self.log.to_spec(),
            forking: self.forking,
            listen: self.listen.clone(),
            watchdog_ms: self.watchdog.map(millis),
            on: self.on.commands(),
            thresholds: self.thresholds.as_ref().map(ThresholdsConfig::to_spec),
        }
    }

    fn ready_or_default(&self) -> Ready {
        let own_env =
            |env: &std::collections::BTreeMap<String, String>| env.values().any(|text| text.contains("{port}"));
        match (&self.ready, &self.command) {
            (Some(ready), _) => ready.clone(),
            (None, _) if let Some(container) = &self.container => {
                let has_port = self.model.is_some() || container.has_port() || own_env(&self.env);
                if has_port { Ready::Probe(Probe::Tcp) } else { Ready::Started }
            }
            (None, None) => Ready::Notify,
            (None, Some(command)) if command.iter().any(|word| word.contains("{port}")) => Ready::Probe(Probe::Tcp),
            (None, Some(_)) => Ready::Started,
        }
    }

    fn health_or_default(&self) -> Option<HealthConfig> {
        self.health.clone().or_else(|| self.is_engine().then(HealthConfig::default))
    }
}

impl LimitsConfig {
    fn to_spec(&self) -> LimitsSpec {
        LimitsSpec {
            memory_max_bytes: self.memory_max.map(|size| size.as_u64()),
            memory_restart_bytes: self.memory_restart.map(|size| size.as_u64()),
            cpus: self.cpus,
            nofile: self.nofile,
            nproc: self.nproc,
            nice: self.nice,
            io: self.io.map(|class| class.as_str().to_owned()),
        }
    }
}

impl LogConfig {
    fn to_spec(&self) -> LogSpec {
        LogSpec { file_bytes_max: self.max_size.as_u64(), files_kept: self.keep, age_max_ms: millis(self.max_age) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
