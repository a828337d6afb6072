//! Who needs whom: checked once for a whole set of units, then kept in both directions.

use std::collections::{BTreeMap, BTreeSet};

use crate::UnitName;

/// A set of dependencies that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependencyError {
    /// A unit needs one that does not exist.
    #[error("`{unit}` depends on `{dependency}`, which does not exist")]
    Unknown {
        /// Who needs it.
        unit: UnitName,
        /// What is missing.
        dependency: UnitName,
    },
    /// Following the dependencies leads back to where one began; a unit that needs itself is the shortest case.
    #[error("dependencies form a cycle: {}", path.iter().map(UnitName::as_str).collect::<Vec<_>>().join(" → "))]
    Cycle {
        /// The way round; first and last are the same.
        path: Vec<UnitName>,
    },
}

/// Checks that everything needed exists and that nothing needs itself, however indirectly.
///
/// # Errors
/// The first problem found, in the order of names.
pub fn check_dependencies(units: &BTreeMap<UnitName, Vec<UnitName>>) -> Result<(), DependencyError> {
    let mut done = BTreeSet::new();
    for unit in units.keys() {
        let mut path = Vec::new();
        visit(unit, units, &mut path, &mut done)?;
    }
    Ok(())
}

fn visit(
    unit: &UnitName,
    units: &BTreeMap<UnitName, Vec<UnitName>>,
    path: &mut Vec<UnitName>,
    done: &mut BTreeSet<UnitName>,
) -> Result<(), DependencyError> {
    if done.contains(unit) {
        return Ok(());
    }
    if let Some(from) = path.iter().position(|seen| seen == unit) {
        let mut cycle = path.split_off(from);
        cycle.push(unit.clone());
        return Err(DependencyError::Cycle { path: cycle });
    }
    path.push(unit.clone());
    for dependency in units.get(unit).into_iter().flatten() {
        if !units.contains_key(dependency) {
            return Err(DependencyError::Unknown { unit: unit.clone(), dependency: dependency.clone() });
        }
        visit(dependency, units, path, done)?;
    }
    path.pop();
    done.insert(unit.clone());
    Ok(())
}

/// Dependencies in both directions.
#[derive(Debug, Clone)]
pub(crate) struct Dependencies {
    needs: BTreeMap<UnitName, Vec<UnitName>>,
    needed_by: BTreeMap<UnitName, BTreeSet<UnitName>>,
}

impl Dependencies {
    pub(crate) const fn new() -> Self {
        Self { needs: BTreeMap::new(), needed_by: BTreeMap::new() }
    }

    /// Replaces what `unit` needs.
    pub(crate) fn set(&mut self, unit: &UnitName, needs: &[UnitName]) {
        for former in self.needs.remove(unit).into_iter().flatten() {
            if let Some(dependents) = self.needed_by.get_mut(&former) {
                dependents.remove(unit);
            }
        }
        for dependency in needs {
            self.needed_by.entry(dependency.clone()).or_default().insert(unit.clone());
        }
        if !needs.is_empty() {
            self.needs.insert(unit.clone(), needs.to_vec());
        }
    }

    /// What `unit` needs directly.
    pub(crate) fn of(&self, unit: &UnitName) -> &[UnitName] {
        self.needs.get(unit).map_or(&[], Vec::as_slice)
    }

    /// Who needs `unit` directly.
    pub(crate) fn dependents(&self, unit: &UnitName) -> impl Iterator<Item = &UnitName> {
        self.needed_by.get(unit).into_iter().flatten()
    }

    /// `unit` and all it needs, directly or not; what is needed comes first.
    pub(crate) fn closure(&self, unit: &UnitName) -> Vec<UnitName> {
        let mut found = vec![unit.clone()];
        let mut next = 0;
        while let Some(name) = found.get(next).cloned() {
            for dependency in self.of(&name) {
                // Found again further down: it has to come before both.
                found.retain(|known| known != dependency);
                found.push(dependency.clone());
            }
            next = found.iter().position(|known| *known == name).map_or(next, |at| at + 1);
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<UnitName, Vec<UnitName>> {
        let names = |list: &[&str]| list.iter().map(|name| UnitName::new(name)).collect();
        edges.iter().map(|(unit, needs)| (UnitName::new(unit), names(needs))).collect()
    }

    /// DEPS-01
    #[test]
    fn impossible_graphs_are_told_with_their_path() {
        assert_eq!(check_dependencies(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), Ok(()));
        for (edges, message) in [
            (graph(&[("a", &["x"])]), "`a` depends on `x`, which does not exist"),
            (graph(&[("a", &["a"])]), "dependencies form a cycle: a → a"),
            (graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]), "dependencies form a cycle: b → c → b"),
        ] {
            assert_eq!(check_dependencies(&edges).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }

    #[test]
    fn what_is_needed_comes_first() {
        let mut dependencies = Dependencies::new();
        for (unit, needs) in graph(&[("top", &["left", "right"]), ("left", &["base"]), ("right", &["left"])]) {
            dependencies.set(&unit, &needs);
        }
        let order: Vec<String> = dependencies.closure(&UnitName::new("top")).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["base", "left", "right", "top"]);
    }

    #[test]
    fn a_changed_need_is_forgotten_in_both_directions() {
        let mut dependencies = Dependencies::new();
        let [a, b] = ["a", "b"].map(UnitName::new);
        dependencies.set(&a, std::slice::from_ref(&b));
        assert_eq!(dependencies.dependents(&b).count(), 1);
        dependencies.set(&a, &[]);
        assert_eq!(dependencies.dependents(&b).count(), 0);
    }
}
