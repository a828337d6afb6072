//! Names of workers and their replicas: `NAME`, `NAME/2`, `HIVE:NAME/2`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One replica of a worker; unique in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplicaId {
    /// Name of the worker's table in the config.
    pub name: String,
    /// Counted from 0.
    pub replica: u32,
}

impl ReplicaId {
    /// The unit's name in a supervisor: `NAME.REPLICA` (safe in file names).
    #[must_use]
    pub fn unit_name(&self) -> String {
        format!("{}.{}", self.name, self.replica)
    }

    /// The inverse of [`ReplicaId::unit_name`].
    #[must_use]
    pub fn from_unit_name(unit: &str) -> Option<Self> {
        let (name, replica) = unit.rsplit_once('.')?;
        Some(Self { name: name.to_owned(), replica: replica.parse().ok()? })
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.replica)
    }
}

/// What a user writes to name workers; parts left out match everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRef {
    /// Only on this hive.
    pub hive: Option<String>,
    /// Name of the worker's table in the config.
    pub name: String,
    /// Only this replica.
    pub replica: Option<u32>,
}

impl WorkerRef {
    /// Whether the replica on that hive is meant.
    #[must_use]
    pub fn matches(&self, hive: &str, id: &ReplicaId) -> bool {
        self.hive.as_deref().is_none_or(|h| h == hive)
            && self.name == id.name
            && self.replica.is_none_or(|r| r == id.replica)
    }
}

impl fmt::Display for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hive) = &self.hive {
            write!(f, "{hive}:")?;
        }
        f.write_str(&self.name)?;
        if let Some(replica) = self.replica {
            write!(f, "/{replica}")?;
        }
        Ok(())
    }
}

/// Why a text names no worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWorkerRef {
    /// The name has characters a name cannot have.
    #[error("`{name}` is no name: use letters, digits, `-` and `_`")]
    Name {
        /// What stands where a name should.
        name: String,
    },
    /// The replica is no number.
    #[error("`{replica}` is no replica: replicas are numbers, counted from 0")]
    Replica {
        /// What stands where a number should.
        replica: String,
    },
}

/// Whether a text can name a worker, a hive, a model or a profile: 1 to 64 of `A-Z a-z 0-9 - _`.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl FromStr for WorkerRef {
    type Err = InvalidWorkerRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (hive, rest) = match text.split_once(':') {
            Some((hive, rest)) => (Some(hive), rest),
            None => (None, text),
        };
        let (name, replica) = match rest.split_once('/') {
            Some((name, replica)) => (name, Some(replica)),
            None => (rest, None),
        };
        for part in hive.iter().chain([&name]) {
            if !is_valid_name(part) {
                return Err(InvalidWorkerRef::Name { name: (*part).to_owned() });
            }
        }
        let replica =
            replica.map(|r| r.parse().map_err(|_| InvalidWorkerRef::Replica { replica: r.to_owned() })).transpose()?;
        Ok(Self { hive: hive.map(str::to_owned), name: name.to_owned(), replica })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for text in ["smollm2", "smollm2/0", "smollm2/12", "local:smollm2", "local:smollm2/2"] {
            assert_eq!(text.parse::<WorkerRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "a/", "a/x", "a/-1", ":a", "a b", "../etc", "a/1/2"] {
            assert!(text.parse::<WorkerRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reference_matches_what_it_leaves_out() {
        let id = ReplicaId { name: "w".into(), replica: 1 };
        for (text, expected) in
            [("w", true), ("w/1", true), ("w/0", false), ("h:w", true), ("x:w", false), ("v", false)]
        {
            assert_eq!(text.parse::<WorkerRef>().unwrap().matches("h", &id), expected, "{text}");
        }
    }

    #[test]
    fn unit_names_round_trip() {
        let id = ReplicaId { name: "a-b_c".into(), replica: 10 };
        assert_eq!(ReplicaId::from_unit_name(&id.unit_name()), Some(id));
        assert_eq!(ReplicaId::from_unit_name("nodot"), None);
    }
}
