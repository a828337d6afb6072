//! Which worker needs which: names that exist, no way back to where one began, and what starting one starts with it.

use std::collections::{BTreeMap, BTreeSet};

use super::document::Document;
use super::problem::did_you_mean;
use super::schema::Config;

/// Records every dependency that cannot be meant.
pub(super) fn check(config: &Config, document: &mut Document<'_>) {
    for (name, worker) in &config.worker {
        let key = format!("worker.{name}.depends_on");
        for dependency in &worker.depends_on {
            match config.worker.get(dependency) {
                _ if dependency == name => {
                    document.problem(&key, format!("worker `{name}` depends on itself"), None);
                }
                None => {
                    let hint = (!document.is_full())
                        .then(|| did_you_mean(dependency, config.worker.keys().map(String::as_str)))
                        .flatten();
                    let message = format!("worker `{name}` depends on the unknown worker `{dependency}`");
                    document.problem(&key, message, hint);
                }
                Some(needed) if needed.replicas == 0 && worker.replicas > 0 => {
                    let message = format!("worker `{name}` depends on `{dependency}`, which has no replicas");
                    document.problem(&key, message, Some(format!("give `{dependency}` at least one")));
                }
                Some(_) => {}
            }
        }
    }
    for cycle in cycles(config) {
        let Some(first) = cycle.first() else { continue };
        let path = cycle.iter().map(|name| format!("{name} → ")).collect::<String>() + first;
        document.problem(&format!("worker.{first}.depends_on"), format!("dependencies form a cycle: {path}"), None);
    }
}

/// Every cycle longer than one that a walk along the dependencies meets, each from where it was met.
fn cycles(config: &Config) -> Vec<Vec<&str>> {
    let needs = |name: &str| config.worker.get(name).map(|worker| worker.depends_on.as_slice()).unwrap_or_default();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut cycles = Vec::new();
    for start in config.worker.keys() {
        // A stack of our own: a chain may be ten thousand long.
        let mut path: Vec<(&str, std::slice::Iter<'_, String>)> = Vec::new();
        let mut position: BTreeMap<&str, usize> = BTreeMap::new();
        let mut next = Some(start.as_str());
        loop {
            if let Some(name) = next.take() {
                if let Some(from) = position.get(name) {
                    let cycle: Vec<&str> = path[*from..].iter().map(|(name, _)| *name).collect();
                    if cycle.len() > 1 {
                        cycles.push(cycle);
                    }
                } else if !done.contains(name) {
                    position.insert(name, path.len());
                    path.push((name, needs(name).iter()));
                }
            }
            let Some((name, rest)) = path.last_mut() else { break };
            match rest.next() {
                Some(dependency) => next = Some(dependency),
                None => {
                    done.insert(name);
                    position.remove(name);
                    path.pop();
                }
            }
        }
    }
    cycles
}

impl Config {
    /// The workers named and everything they need, however indirectly.
    #[must_use]
    pub fn with_dependencies<'c>(&'c self, names: impl IntoIterator<Item = &'c str>) -> BTreeSet<&'c str> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = names.into_iter().collect();
        while let Some(name) = open.pop() {
            let Some((name, worker)) = self.worker.get_key_value(name) else { continue };
            if found.insert(name.as_str()) {
                open.extend(worker.depends_on.iter().map(String::as_str));
            }
        }
        found
    }
}
