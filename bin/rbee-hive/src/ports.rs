//! Which port each replica has. Pure: whether a port is free is asked of the caller.
//!
//! A replica keeps its port for as long as it is known, so that restarts and adoption change nothing for its
//! clients. The table is what the hive writes down.

use std::collections::BTreeMap;

use rbee_api::ReplicaId;
use rbee_runtime::config::PortRange;

/// Enough for every port there is; where any will do, the system may offer some that others hold.
const CANDIDATES_MAX: usize = 65_536;

/// No port is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no port of {range} is free for {id}: {held} are held by other workers, {busy} by other programs; widen `ports` in [hive]"
)]
pub struct NoPortFree {
    /// The hive's range.
    pub range: PortRange,
    /// Who needs one.
    pub id: ReplicaId,
    /// Ports of the range that other replicas have.
    pub held: usize,
    /// Ports of the range that something else listens on.
    pub busy: usize,
}

/// What the system says about ports.
pub trait System {
    /// Whether a listener could be made on `port` now.
    fn is_free(&mut self, port: u16) -> bool;
    /// Some port that is free now, if there is one.
    fn any_free(&mut self) -> Option<u16>;
}

/// Who has which port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortTable {
    held: BTreeMap<ReplicaId, u16>,
}

impl PortTable {
    /// A table as it was written down. Where two claim one port, the first by name keeps it.
    pub fn restored(held: impl IntoIterator<Item = (ReplicaId, u16)>) -> Self {
        let mut table = Self::default();
        for (id, port) in held {
            if table.owner(port).is_none() {
                table.held.insert(id, port);
            }
        }
        table
    }

    /// The port of a replica, if it has one.
    #[must_use]
    pub fn get(&self, id: &ReplicaId) -> Option<u16> {
        self.held.get(id).copied()
    }

    /// The port for `id`: the one it has, if that is still free and in the range, else the lowest free one of the
    /// range that nobody has. Not to be asked for a replica that is running: its own port is busy.
    ///
    /// # Errors
    /// [`NoPortFree`]; then the replica keeps what it had.
    pub fn assign(&mut self, id: &ReplicaId, range: PortRange, system: &mut impl System) -> Result<u16, NoPortFree> {
        if let Some(port) = self.get(id).filter(|port| contains(range, *port) && system.is_free(*port)) {
            return Ok(port);
        }
        let (mut held, mut busy) = (0, 0);
        let mut candidates = range.iter();
        for _ in 0..CANDIDATES_MAX {
            let next = if range.is_any() { system.any_free() } else { candidates.next() };
            let Some(port) = next else { break };
            match self.owner(port) {
                Some(owner) if owner != id => held += 1,
                _ if !system.is_free(port) => busy += 1,
                _ => {
                    self.held.insert(id.clone(), port);
                    return Ok(port);
                }
            }
        }
        Err(NoPortFree { range, id: id.clone(), held, busy })
    }

    /// Gives the port of `id` back.
    pub fn release(&mut self, id: &ReplicaId) {
        self.held.remove(id);
    }

    fn owner(&self, port: u16) -> Option<&ReplicaId> {
        self.held.iter().find(|(_, held)| **held == port).map(|(id, _)| id)
    }
}

fn contains(range: PortRange, port: u16) -> bool {
    range.is_any() || (range.first..=range.last).contains(&port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(replica: u32) -> ReplicaId {
        ReplicaId { name: "w".into(), replica }
    }

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    /// A machine where the ports listed are busy, and which would give out `any`.
    struct Busy(BTreeSet<u16>, Option<u16>);

    impl System for Busy {
        fn is_free(&mut self, port: u16) -> bool {
            !self.0.contains(&port)
        }

        fn any_free(&mut self) -> Option<u16> {
            self.1
        }
    }

    fn busy<const N: usize>(ports: [u16; N]) -> Busy {
        Busy(BTreeSet::from(ports), None)
    }

    #[test]
    fn any_port_is_the_systems_choice_and_is_kept() {
        let mut table = PortTable::default();
        let mut system = Busy(BTreeSet::new(), Some(40_001));
        assert_eq!(table.assign(&id(0), range("0"), &mut system), Ok(40_001));
        system.1 = Some(40_002);
        assert_eq!(table.assign(&id(0), range("0"), &mut system), Ok(40_001));
        system.0.insert(40_001);
        assert_eq!(table.assign(&id(0), range("0"), &mut system), Ok(40_002));
        system.1 = None;
        assert!(table.assign(&id(1), range("0"), &mut system).is_err());
    }

    #[test]
    fn a_port_is_kept_until_it_is_busy_or_outside_the_range() {
        let mut table = PortTable::default();
        assert_eq!(table.assign(&id(0), range("10-19"), &mut busy([])), Ok(10));
        assert_eq!(table.assign(&id(1), range("10-19"), &mut busy([11])), Ok(12), "a busy port is skipped");
        assert_eq!(table.assign(&id(1), range("10-19"), &mut busy([])), Ok(12), "and the choice is kept");
        assert_eq!(table.assign(&id(0), range("10-19"), &mut busy([10])), Ok(11), "a port taken meanwhile is left");
        assert_eq!(table.assign(&id(0), range("30-39"), &mut busy([])), Ok(30), "the range was changed");
    }

    #[test]
    fn none_free_says_why_and_changes_nothing() {
        let mut table = PortTable::restored([(id(0), 10), (id(1), 11)]);
        let before = table.clone();
        let error = table.assign(&id(2), range("10-12"), &mut busy([12])).unwrap_err();
        assert_eq!(error, NoPortFree { range: range("10-12"), id: id(2), held: 2, busy: 1 });
        assert!(error.to_string().contains("10-12") && error.to_string().contains("w/2"), "{error}");
        assert_eq!(table, before);
        table.release(&id(0));
        assert_eq!(table.assign(&id(2), range("10-12"), &mut busy([])), Ok(10));
    }

    #[test]
    fn a_damaged_table_gives_no_port_twice() {
        let table = PortTable::restored([(id(0), 10), (id(1), 10)]);
        assert_eq!((table.get(&id(0)), table.get(&id(1))), (Some(10), None));
    }

    proptest! {
        #[test]
        fn no_port_is_ever_held_twice_and_all_lie_in_the_range(
            steps in prop::collection::vec((0u32..12, any::<bool>(), prop::collection::btree_set(100u16..110, 0..6)), 1..80)
        ) {
            let range = range("100-109");
            let mut table = PortTable::default();
            for (replica, release, busy) in steps {
                let before = table.get(&id(replica));
                if release {
                    table.release(&id(replica));
                } else {
                    match table.assign(&id(replica), range, &mut Busy(busy.clone(), None)) {
                        Ok(port) => {
                            prop_assert!(contains(range, port) && !busy.contains(&port));
                            if let Some(before) = before.filter(|port| !busy.contains(port)) {
                                prop_assert_eq!(port, before, "sticky");
                            }
                        }
                        Err(error) => prop_assert!(error.held + error.busy == 10, "every port is accounted for"),
                    }
                }
                let ports: BTreeSet<_> = table.held.values().collect();
                prop_assert_eq!(ports.len(), table.held.len());
            }
        }
    }
}
