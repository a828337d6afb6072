//! Whether a whole set of dependencies can be meant.

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
    #[error("{}", around(path))]
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
    let mut walk = Walk { units, path: Vec::new(), on_path: BTreeMap::new(), done: BTreeSet::new() };
    units.keys().try_for_each(|unit| walk.from(unit))
}

/// A walk down the dependencies that keeps its own path: ten thousand units in a row must not exhaust the stack.
struct Walk<'a> {
    units: &'a BTreeMap<UnitName, Vec<UnitName>>,
    /// Where it stands, and which dependency of each comes next.
    path: Vec<(&'a UnitName, usize)>,
    on_path: BTreeMap<&'a UnitName, usize>,
    done: BTreeSet<&'a UnitName>,
}

impl<'a> Walk<'a> {
    fn from(&mut self, unit: &'a UnitName) -> Result<(), DependencyError> {
        self.enter(unit)?;
        while let Some((unit, next)) = self.path.last_mut() {
            let unit = *unit;
            let Some(dependency) = self.units.get(unit).and_then(|needs| needs.get(*next)) else {
                self.path.pop();
                self.on_path.remove(unit);
                self.done.insert(unit);
                continue;
            };
            *next += 1;
            if !self.units.contains_key(dependency) {
                return Err(DependencyError::Unknown { unit: unit.clone(), dependency: dependency.clone() });
            }
            self.enter(dependency)?;
        }
        Ok(())
    }

    fn enter(&mut self, unit: &'a UnitName) -> Result<(), DependencyError> {
        if let Some(from) = self.on_path.get(unit) {
            let around = self.path.iter().skip(*from).map(|(name, _)| *name);
            return Err(DependencyError::Cycle { path: around.chain([unit]).cloned().collect() });
        }
        if !self.done.contains(unit) {
            self.on_path.insert(unit, self.path.len());
            self.path.push((unit, 0));
        }
        Ok(())
    }
}

/// A cycle in words; the shortest one in words of its own.
fn around(path: &[UnitName]) -> String {
    match path {
        [unit, _] => format!("`{unit}` depends on itself"),
        _ => {
            let names: Vec<&str> = path.iter().map(UnitName::as_str).collect();
            format!("dependencies form a cycle: {}", names.join(" → "))
        }
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
            (graph(&[("a", &["a"])]), "`a` depends on itself"),
            (graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]), "dependencies form a cycle: b → c → b"),
        ] {
            assert_eq!(check_dependencies(&edges).map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }

    #[test]
    fn ten_thousand_in_a_row_are_walked() {
        let name = |n: u32| UnitName::new(&format!("u{n:05}"));
        let mut units: BTreeMap<_, _> = (0..10_000).map(|n| (name(n), vec![name(n + 1)])).collect();
        units.insert(name(10_000), Vec::new());
        assert_eq!(check_dependencies(&units), Ok(()));
        units.insert(name(10_000), vec![name(0)]);
        let Err(DependencyError::Cycle { path }) = check_dependencies(&units) else { panic!("no cycle") };
        assert_eq!((path.len(), path.first()), (10_002, path.last()));
    }
}
