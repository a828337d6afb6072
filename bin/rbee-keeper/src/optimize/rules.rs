//! The rules: each looks at one thing and proposes a value that it would not change again.

mod engine;
mod limits;
mod patience;

use rbee_api::report::Report;
use rbee_runtime::config::{Config, WorkerConfig};

use super::past::Past;
use super::{Advice, Machine, Proposal, Setting};

/// What the rules look at.
struct View<'v> {
    machine: &'v Machine,
    config: &'v Config,
    history: Option<&'v Report>,
    /// The workers that start on this machine.
    workers: Vec<(&'v str, &'v WorkerConfig)>,
}

impl<'v> View<'v> {
    fn new(machine: &'v Machine, config: &'v Config, history: Option<&'v Report>) -> Self {
        let runs_here = config.starts_hive() && !config.queen_is_elsewhere();
        let names = if runs_here { config.wanted_workers(None) } else { Default::default() };
        let workers = names.into_iter().filter_map(|name| Some((name, config.worker.get(name)?)));
        let workers = workers.filter(|(_, worker)| worker.replicas > 0).collect();
        Self { machine, config, history, workers }
    }

    fn past(&self, name: &'v str) -> Option<Past<'v>> {
        self.history.map(|report| Past::of(report, &self.config.hive.name, name))
    }

    /// Our own engine's workers, and the size of their models where those are here.
    fn engines(&self) -> impl Iterator<Item = (&'v str, &'v WorkerConfig, Option<u64>)> {
        let engines = self.workers.iter().filter(|(_, worker)| worker.is_engine());
        engines.map(|(name, worker)| {
            let bytes = worker.model.as_ref().and_then(|model| self.machine.model_bytes.get(model)).copied();
            (*name, *worker, bytes)
        })
    }
}

/// Every proposal of every rule; no key twice.
pub(super) fn all(machine: &Machine, config: &Config, history: Option<&Report>) -> Vec<Proposal> {
    let view = View::new(machine, config, history);
    let mut found = Vec::new();
    let threads = engine::threads(&view, &mut found);
    engine::slots(&view, &mut found);
    engine::mlock(&view, &mut found);
    limits::nice(&view, &threads, &mut found);
    limits::io(&view, &mut found);
    limits::nofile(&view, &mut found);
    limits::memory_max(&view, &mut found);
    patience::back_off(&view, &mut found);
    patience::start_timeout(&view, &mut found);
    found
}

/// What is not for the configuration.
pub(super) fn advice(machine: &Machine, config: &Config) -> Vec<Advice> {
    let view = View::new(machine, config, None);
    let mut found = Vec::new();
    engine::huge_pages(&view, &mut found);
    limits::cgroup(&view, &mut found);
    found
}

fn of_worker(name: &str, key: &str) -> String {
    format!("worker.{name}.{key}")
}

fn proposal(
    key: String,
    from: Option<Setting>,
    to: impl Into<Setting>,
    reason: impl Into<String>,
    effect: impl Into<String>,
) -> Proposal {
    Proposal { key, from, to: to.into(), reason: reason.into(), effect: effect.into() }
}

fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

#[cfg(test)]
pub(super) mod tests;
