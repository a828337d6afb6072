//! The start budget: how many units may be on their way up at once, and who is next.

use std::collections::{BTreeMap, BTreeSet};

use crate::UnitName;

/// Start slots, and the units that wait for one or for what they need.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    max: usize,
    held: usize,
    next_ticket: u64,
    /// Every waiting unit's place, in the order they began to wait.
    tickets: BTreeMap<UnitName, u64>,
    /// Those that wait for nothing but a slot.
    queue: BTreeSet<(u64, UnitName)>,
}

impl Slots {
    pub(crate) const fn new(max: usize) -> Self {
        let max = if max == 0 { 1 } else { max };
        Self { max, held: 0, next_ticket: 0, tickets: BTreeMap::new(), queue: BTreeSet::new() }
    }

    pub(crate) const fn is_one_free(&self) -> bool {
        self.held < self.max
    }

    pub(crate) const fn took(&mut self) {
        self.held += 1;
    }

    pub(crate) const fn gave_back(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// A unit waits; `for_slot_only`: all it needs runs.
    pub(crate) fn waits(&mut self, unit: &UnitName, for_slot_only: bool) {
        let ticket = *self.tickets.entry(unit.clone()).or_insert_with(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        let place = (ticket, unit.clone());
        if for_slot_only {
            self.queue.insert(place)
        } else {
            self.queue.remove(&place)
        };
    }

    /// A unit does not wait any more.
    pub(crate) fn left(&mut self, unit: &UnitName) {
        if let Some(ticket) = self.tickets.remove(unit) {
            self.queue.remove(&(ticket, unit.clone()));
        }
    }

    /// Who waited longest for nothing but a slot.
    pub(crate) fn next(&self) -> Option<&UnitName> {
        self.queue.first().map(|(_, unit)| unit)
    }
}
