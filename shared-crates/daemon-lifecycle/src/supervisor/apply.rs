//! Declaring the whole set of units, and taking over those that an earlier supervisor left running.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use supervision::{Event, Incarnation, Phase, Spec, UnitName, check_dependencies};
use tokio::time::Instant;

use super::entry::Entry;
use super::owner::Owner;
use super::paths::name_problem;
use super::spec::UnitSpec;
use super::takeover::Orphan;
use super::{Result, SupervisorError};
use crate::after_exit::AfterExit;
use crate::launch::Launch;
use crate::listen::ListenSocket;
use crate::logs::{LogPolicy, Logs};
use crate::probe::{Probe, Readiness};

impl Owner {
    pub(super) fn apply(&mut self, specs: Vec<Arc<UnitSpec>>) -> Result<()> {
        self.check(&specs)?;
        // All that can fail comes before anything changes.
        let mut logs = self.open_new_logs(&specs)?;
        let declared: BTreeSet<UnitName> = specs.iter().map(|spec| UnitName::new(&spec.name)).collect();
        for spec in specs {
            let logs = logs.remove(&spec.name);
            self.declare(spec, logs);
        }
        self.stop_orphans();
        let undeclared: Vec<UnitName> = self.units.keys().filter(|name| !declared.contains(*name)).cloned().collect();
        for unit in undeclared {
            self.step(Event::Remove { unit });
        }
        self.step(Event::AdoptionDone);
        Ok(())
    }

    fn check(&self, specs: &[Arc<UnitSpec>]) -> Result<()> {
        if specs.len() > self.config.bounds.units_max {
            let reason = format!("more than {} units", self.config.bounds.units_max);
            return Err(SupervisorError::InvalidSpec { unit: specs[0].name.clone(), reason });
        }
        let mut dependencies = BTreeMap::new();
        for spec in specs {
            let invalid = |reason: String| Err(SupervisorError::InvalidSpec { unit: spec.name.clone(), reason });
            if let Some(problem) = problem_of(spec) {
                return invalid(problem);
            }
            if dependencies.insert(UnitName::new(&spec.name), spec.policy.depends_on.clone()).is_some() {
                return invalid("it is declared twice".to_owned());
            }
        }
        check_dependencies(&dependencies).map_err(|error| {
            let unit = match &error {
                supervision::DependencyError::Unknown { unit, .. } => unit.as_str().to_owned(),
                supervision::DependencyError::Cycle { path } => {
                    path.first().map(ToString::to_string).unwrap_or_default()
                }
            };
            SupervisorError::InvalidSpec { unit, reason: error.to_string() }
        })
    }

    /// The logs of units that are not known yet; all of them, or none.
    fn open_new_logs(&self, specs: &[Arc<UnitSpec>]) -> Result<BTreeMap<String, Logs>> {
        let mut logs = BTreeMap::new();
        for spec in specs.iter().filter(|spec| !self.units.contains_key(&UnitName::new(&spec.name))) {
            let writer = self.orphans.get(&spec.name).map(|orphan| orphan.process.pid());
            match self.open_logs(&spec.name, spec.log, writer) {
                Ok(opened) => drop(logs.insert(spec.name.clone(), opened)),
                Err(error) => {
                    let made = logs.keys().chain([&spec.name]).filter(|unit| !self.orphans.contains_key(*unit));
                    for path in made.flat_map(|unit| self.paths.fifos(unit)) {
                        // The error that counts is the first.
                        let _ = crate::files::remove(&path);
                    }
                    return Err(error);
                }
            }
        }
        Ok(logs)
    }

    /// `writer`: the process that writes to it already.
    fn open_logs(&self, unit: &str, policy: LogPolicy, writer: Option<u32>) -> Result<Logs> {
        let config = self.paths.log_config(unit, policy, writer);
        let path = config.file.clone();
        self.logs.unit(config).map_err(|source| SupervisorError::File { doing: "log to", path, source })
    }

    /// `logs`: those of a new unit.
    fn declare(&mut self, spec: Arc<UnitSpec>, logs: Option<Logs>) {
        let unit = UnitName::new(&spec.name);
        let core_spec = Entry::core_spec(&spec);
        let orphan = self.orphans.remove(&spec.name);
        let last_run = self.last_runs.remove(&spec.name).unwrap_or_default();
        let mut last_incarnation = last_run.incarnation;
        if let Some(logs) = logs {
            let mut entry = self.new_entry(spec, logs);
            entry.listened = last_run.listened;
            self.units.insert(unit.clone(), entry);
            if let Some(orphan) = orphan {
                last_incarnation = Incarnation::new(orphan.state.incarnation);
                // First as it was: a launch that differs by now is a change like any other.
                let as_it_was = Spec { launch_fingerprint: orphan.state.launch_fingerprint, ..core_spec.clone() };
                self.step(Event::Declare { unit: unit.clone(), spec: as_it_was, last_incarnation });
                self.adopt(&unit, orphan);
            }
            return self.step(Event::Declare { unit, spec: core_spec, last_incarnation });
        }
        let Some(entry) = self.units.get_mut(&unit) else { return };
        let probes_differ = entry.spec.health != spec.health;
        if spec.limits.memory_restart_bytes.is_some() {
            self.memory_at.get_or_insert_with(|| Instant::now() + self.config.bounds.memory_interval);
        }
        if entry.spec.log != spec.log {
            entry.logs.set_policy(spec.log);
        }
        entry.spec = spec;
        self.step(Event::Declare { unit: unit.clone(), spec: core_spec, last_incarnation });
        if probes_differ && let Some(core_unit) = self.core.unit(&unit).filter(|unit| unit.phase() == Phase::Running) {
            let incarnation = core_unit.incarnation();
            self.watch_health(&unit, incarnation);
        }
    }

    fn new_entry(&self, spec: Arc<UnitSpec>, logs: Logs) -> Box<Entry> {
        Box::new(Entry {
            log_file: self.paths.log_file(&spec.name),
            spec,
            logs,
            live: None,
            giving_up: None,
            socket: None,
            listened: None,
            log_tail: Vec::new(),
            waiting: Vec::new(),
        })
    }

    fn adopt(&mut self, unit: &UnitName, orphan: Orphan) {
        let Orphan { process, state } = orphan;
        let incarnation = Incarnation::new(state.incarnation);
        let event = Event::Adopted { unit: unit.clone(), incarnation, stage: state.stage, restarts: state.restarts };
        let listened = state.listen;
        let socket = listened.and_then(|address| ListenSocket::share_of(&process, address));
        match self.attach(unit, process, state, true) {
            Ok(()) => {
                if let Some(entry) = self.units.get_mut(unit) {
                    (entry.socket, entry.listened) = (socket, listened);
                }
                self.step(event);
                self.arm_watchdog(unit.clone(), incarnation);
            }
            Err(error) => tracing::error!(%unit, error, "cannot take over a live process"),
        }
    }

    /// Stops the live processes that nobody declared.
    pub(super) fn stop_orphans(&mut self) {
        for (name, orphan) in std::mem::take(&mut self.orphans) {
            let unit = UnitName::new(&name);
            tracing::info!(%unit, pid = orphan.process.pid(), "nobody declares it any more; stopping it");
            let logs = match self.open_logs(&name, LogPolicy::default(), Some(orphan.process.pid())) {
                Ok(logs) => logs,
                Err(error) => {
                    tracing::error!(%unit, %error, "cannot follow its output; it keeps running");
                    continue;
                }
            };
            let mut spec = UnitSpec::new(name, Launch::default());
            spec.readiness = Readiness::Started;
            spec.stop_signal = orphan.state.stop_signal;
            spec.pid_file = Some(orphan.state.pid_file.clone());
            spec.policy.stop_timeout_ms = orphan.state.stop_timeout_ms;
            let core_spec = Entry::core_spec(&spec);
            let last_incarnation = Incarnation::new(orphan.state.incarnation);
            self.units.insert(unit.clone(), self.new_entry(Arc::new(spec), logs));
            self.step(Event::Declare { unit: unit.clone(), spec: core_spec, last_incarnation });
            self.adopt(&unit, orphan);
            self.step(Event::Remove { unit });
        }
    }
}

/// What keeps a unit from being supervised as declared.
fn problem_of(spec: &UnitSpec) -> Option<String> {
    if let Some(problem) = name_problem(&spec.name) {
        return Some(problem.to_owned());
    }
    if let Err(error) = spec.policy.validate() {
        return Some(error.to_string());
    }
    if spec.launch.program.as_os_str().is_empty() {
        return Some("it has no program to run".to_owned());
    }
    if let Some(problem) = spec.limits.problem() {
        return Some(problem);
    }
    if spec.watchdog.is_some_and(|watchdog| watchdog.as_millis() == 0) {
        return Some("its watchdog's time is 0; it must be positive".to_owned());
    }
    if let Some(problem) = spec.after_exit.as_ref().and_then(AfterExit::problem) {
        return Some(problem.to_owned());
    }
    if spec.forking && spec.pid_file.is_none() {
        return Some("it forks, so its own PID file has to be named".to_owned());
    }
    let probes = [
        match &spec.readiness {
            Readiness::Probe(probe) => Some(probe),
            Readiness::Notify | Readiness::Started => None,
        },
        spec.health.as_ref().map(|health| &health.probe),
    ];
    probes.into_iter().flatten().find_map(|probe| probe_problem(probe, spec.listen.is_some()))
}

fn probe_problem(probe: &Probe, has_socket: bool) -> Option<String> {
    match probe {
        Probe::Tcp { address: None } | Probe::Http { address: None, .. } if !has_socket => {
            Some("its probe names no address and it has no listening socket".to_owned())
        }
        Probe::Http { path, .. } | Probe::HttpUnix { path, .. } if !path.starts_with('/') => {
            Some(format!("its probe's path {path} has no leading slash"))
        }
        Probe::Exec { command } if command.is_empty() => Some("its exec probe has no command".to_owned()),
        _ => None,
    }
}
