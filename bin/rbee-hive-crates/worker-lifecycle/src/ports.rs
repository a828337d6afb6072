//! Which port each replica has. Pure: whether a port is free is asked of the caller.
//!
//! A replica keeps its port for as long as it is known, so that restarts and adoption change nothing for its
//! clients. The table is what the hive writes down.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rbee_api::ReplicaId;

/// Ports that workers may have, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A text that is no range of ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no range of ports such as 7855-7899")]
pub struct InvalidPortRange {
    /// What was given.
    pub text: String,
}

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

impl PortRange {
    /// The range from `first` to `last`.
    ///
    /// # Errors
    /// When it is empty or holds port 0.
    pub fn try_new(first: u16, last: u16) -> Result<Self, InvalidPortRange> {
        if first == 0 || last < first {
            return Err(InvalidPortRange { text: format!("{first}-{last}") });
        }
        Ok(Self { first, last })
    }

    /// Whether `port` is in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |part: &str| part.trim().parse::<u16>().ok();
        number(first)
            .zip(number(last))
            .and_then(|(first, last)| Self::try_new(first, last).ok())
            .ok_or_else(|| InvalidPortRange { text: text.to_owned() })
    }
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

    /// The port for `id`: the one it has, if `is_free` still says so and it is in the range, else the lowest free
    /// one of the range that nobody has. Not to be asked for a replica that is running: its own port is busy.
    ///
    /// # Errors
    /// [`NoPortFree`]; then the replica keeps what it had.
    pub fn assign(
        &mut self,
        id: &ReplicaId,
        range: PortRange,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Result<u16, NoPortFree> {
        if let Some(port) = self.get(id).filter(|port| range.contains(*port) && is_free(*port)) {
            return Ok(port);
        }
        let (mut held, mut busy) = (0, 0);
        for port in range.first..=range.last {
            match self.owner(port) {
                Some(owner) if owner != id => held += 1,
                _ if !is_free(port) => busy += 1,
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

    #[test]
    fn ranges_round_trip_and_nonsense_is_refused() {
        assert_eq!(range("7855-7899").to_string(), "7855-7899");
        assert_eq!(range("8000").to_string(), "8000-8000");
        for text in ["", "-", "0-5", "9-8", "1-65536", "a-b", "1-2-3", "-5"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_is_kept_until_it_is_busy_or_outside_the_range() {
        let mut table = PortTable::default();
        assert_eq!(table.assign(&id(0), range("10-19"), |_| true), Ok(10));
        assert_eq!(table.assign(&id(1), range("10-19"), |port| port != 11), Ok(12), "a busy port is skipped");
        assert_eq!(table.assign(&id(1), range("10-19"), |_| true), Ok(12), "and the choice is kept");
        assert_eq!(table.assign(&id(0), range("10-19"), |port| port != 10), Ok(11), "a port taken meanwhile is left");
        assert_eq!(table.assign(&id(0), range("30-39"), |_| true), Ok(30), "the range was changed");
    }

    #[test]
    fn none_free_says_why_and_changes_nothing() {
        let mut table = PortTable::restored([(id(0), 10), (id(1), 11)]);
        let before = table.clone();
        let error = table.assign(&id(2), range("10-12"), |port| port != 12).unwrap_err();
        assert_eq!(error, NoPortFree { range: range("10-12"), id: id(2), held: 2, busy: 1 });
        assert!(error.to_string().contains("10-12") && error.to_string().contains("w/2"), "{error}");
        assert_eq!(table, before);
        table.release(&id(0));
        assert_eq!(table.assign(&id(2), range("10-12"), |_| true), Ok(10));
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
                    match table.assign(&id(replica), range, |port| !busy.contains(&port)) {
                        Ok(port) => {
                            prop_assert!(range.contains(port) && !busy.contains(&port));
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
