//! Who needs whom, in both directions, with what each unit has to know of its neighbours kept as numbers.
//!
//! Nothing here looks at all units: a move of one costs its own edges, so that a thousand starts or stops cost a
//! thousand times one, also around a unit that all others need, or that needs all others.

use std::collections::{BTreeMap, BTreeSet};

use crate::UnitName;
use crate::mutants::mutant;

#[derive(Debug, Clone, Default)]
struct Node {
    /// What it needs, each once, in the order declared.
    needs: Vec<UnitName>,
    /// Those of its needs that do not run.
    down: BTreeSet<UnitName>,
    /// Who needs it.
    needed_by: BTreeSet<UnitName>,
    /// How many of those are live.
    live_dependents: usize,
    /// Whether the unit exists, and is not only needed.
    is_known: bool,
    is_running: bool,
    is_live: bool,
    /// When all it needs, however indirectly, was last seen wanted and not down.
    settled_in: Option<u64>,
}

/// Dependencies in both directions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Graph {
    nodes: BTreeMap<UnitName, Node>,
    /// Grows whenever a unit goes down for good or an edge changes: what was settled before is to be looked at again.
    epoch: u64,
}

impl Graph {
    pub(crate) const fn new() -> Self {
        Self { nodes: BTreeMap::new(), epoch: 0 }
    }

    /// Replaces what `unit` needs; from now on it is known.
    pub(crate) fn set_needs(&mut self, unit: &UnitName, needs: &[UnitName]) {
        self.unsettle();
        let node = self.nodes.entry(unit.clone()).or_default();
        node.is_known = true;
        let is_live = node.is_live;
        for former in std::mem::take(&mut node.needs) {
            if let Some(node) = self.nodes.get_mut(&former) {
                node.needed_by.remove(unit);
                node.live_dependents -= usize::from(is_live);
            }
            self.forget_lonely(&former);
        }
        let (mut unique, mut down) = (Vec::with_capacity(needs.len()), BTreeSet::new());
        for dependency in needs {
            let node = self.nodes.entry(dependency.clone()).or_default();
            if node.needed_by.insert(unit.clone()) {
                node.live_dependents += usize::from(is_live);
                unique.push(dependency.clone());
                if !node.is_running {
                    down.insert(dependency.clone());
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(unit) {
            (node.needs, node.down) = (unique, down);
        }
    }

    /// Tells the neighbours of `unit` what became of it.
    pub(crate) fn moved(&mut self, unit: &UnitName, is_running: bool, is_live: bool) {
        let Some(node) = self.nodes.get_mut(unit) else { return };
        let (was_running, was_live) = (node.is_running, node.is_live);
        (node.is_running, node.is_live) = (is_running, is_live);
        if was_running != is_running {
            for dependent in node.needed_by.clone() {
                let Some(node) = self.nodes.get_mut(&dependent) else { continue };
                if is_running {
                    node.down.remove(unit)
                } else {
                    node.down.insert(unit.clone())
                };
            }
        }
        if was_live != is_live {
            for dependency in self.needs(unit).to_vec() {
                let Some(node) = self.nodes.get_mut(&dependency) else { continue };
                node.live_dependents = node.live_dependents + usize::from(is_live) - usize::from(was_live);
            }
        }
    }

    /// `unit` is no more; who needs it still does.
    pub(crate) fn forget(&mut self, unit: &UnitName) {
        self.moved(unit, false, false);
        self.set_needs(unit, &[]);
        if let Some(node) = self.nodes.get_mut(unit) {
            node.is_known = false;
        }
        self.forget_lonely(unit);
    }

    fn forget_lonely(&mut self, unit: &UnitName) {
        if self.nodes.get(unit).is_some_and(|node| node.needed_by.is_empty() && !node.is_known) {
            self.nodes.remove(unit);
        }
    }

    /// What `unit` needs directly.
    pub(crate) fn needs(&self, unit: &UnitName) -> &[UnitName] {
        self.nodes.get(unit).map_or(&[], |node| node.needs.as_slice())
    }

    /// Who needs `unit` directly.
    pub(crate) fn dependents(&self, unit: &UnitName) -> impl Iterator<Item = &UnitName> {
        self.nodes.get(unit).into_iter().flat_map(|node| &node.needed_by)
    }

    pub(crate) fn has_live_dependents(&self, unit: &UnitName) -> bool {
        self.nodes.get(unit).is_some_and(|node| node.live_dependents > 0)
    }

    /// The first of its needs that does not run.
    pub(crate) fn first_down(&self, unit: &UnitName) -> Option<&UnitName> {
        self.nodes.get(unit)?.down.first()
    }

    /// `unit` and all it needs that may be down or unwanted; what is needed comes first. Whoever starts these says so
    /// with [`Graph::settled`]; what lies below a settled one is not looked at again.
    pub(crate) fn to_start(&self, unit: &UnitName) -> Vec<UnitName> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::from([unit.clone()]);
        let mut stack = vec![(unit, 0)];
        while let Some((name, next)) = stack.last_mut() {
            let Some(dependency) = self.needs(name).get(*next) else {
                order.push((*name).clone());
                stack.pop();
                continue;
            };
            *next += 1;
            if !self.is_settled(dependency) && seen.insert(dependency.clone()) {
                stack.push((dependency, 0));
            }
        }
        order
    }

    /// These, and all below them, are wanted and not down.
    pub(crate) fn settled(&mut self, units: &[UnitName]) {
        for unit in units {
            if let Some(node) = self.nodes.get_mut(unit) {
                node.settled_in = Some(self.epoch);
            }
        }
    }

    /// Some unit is down or unwanted.
    pub(crate) fn unsettle(&mut self) {
        self.epoch += u64::from(!mutant!(StartPruned));
    }

    fn is_settled(&self, unit: &UnitName) -> bool {
        self.nodes.get(unit).is_some_and(|node| node.settled_in == Some(self.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let mut graph = Graph::new();
        for (unit, needs) in edges {
            graph.set_needs(&UnitName::new(unit), &needs.iter().map(|need| UnitName::new(need)).collect::<Vec<_>>());
        }
        graph
    }

    fn names(units: &[UnitName]) -> Vec<&str> {
        units.iter().map(UnitName::as_str).collect()
    }

    #[test]
    fn what_is_needed_comes_first() {
        let mut graph = graph(&[("top", &["left", "right"]), ("left", &["base"]), ("right", &["left"]), ("base", &[])]);
        let order = graph.to_start(&UnitName::new("top"));
        assert_eq!(names(&order), ["base", "left", "right", "top"]);
        graph.settled(&order);
        assert_eq!(names(&graph.to_start(&UnitName::new("top"))), ["top"], "nothing went down since");
        graph.unsettle();
        assert_eq!(graph.to_start(&UnitName::new("top")).len(), 4);
    }

    #[test]
    fn a_changed_need_is_forgotten_in_both_directions() {
        let mut graph = graph(&[("a", &["b", "b"]), ("b", &[])]);
        let [a, b] = ["a", "b"].map(UnitName::new);
        graph.moved(&a, false, true);
        assert!(graph.has_live_dependents(&b));
        assert_eq!((graph.dependents(&b).count(), graph.first_down(&a)), (1, Some(&b)));
        graph.set_needs(&a, &[]);
        assert!(!graph.has_live_dependents(&b));
        assert_eq!((graph.dependents(&b).count(), graph.first_down(&a)), (0, None));
    }

    #[test]
    fn a_forgotten_unit_is_still_needed() {
        let mut graph = graph(&[("a", &["b"]), ("b", &[])]);
        let [a, b] = ["a", "b"].map(UnitName::new);
        graph.moved(&b, true, true);
        assert_eq!(graph.first_down(&a), None);
        graph.forget(&b);
        assert_eq!(graph.first_down(&a), Some(&b));
        graph.set_needs(&a, &[]);
        graph.forget(&a);
        assert!(graph.nodes.is_empty(), "nothing is kept for nobody");
    }
}
