//! What a hive writes down, so that the next one goes on where it stopped: desired state, and what its
//! supervisor was told.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;
use rbee_api::WorkerAssignment;
use rbee_runtime::dirs::Dirs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use worker_lifecycle::Placement;

use crate::orders::StoredOrders;

/// The files; each appears whole or not at all.
#[derive(Debug, Clone)]
pub struct StateFiles {
    orders: PathBuf,
    units: PathBuf,
    identity: PathBuf,
}

/// What the supervisor was told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitRecords {
    /// Fleet whose orders were carried out; generations count within it.
    pub fleet_id: Option<String>,
    /// By name and replica.
    pub units: Vec<UnitRecord>,
}

/// What the supervisor was told about one replica, and what was chosen for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitRecord {
    /// The orders carried out.
    pub worker: WorkerAssignment,
    /// Port and model file.
    pub placement: Placement,
}

/// A state file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        #[source]
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StateFiles {
    /// The files of this installation.
    #[must_use]
    pub fn new(dirs: &Dirs) -> Self {
        Self {
            orders: dirs.hive_assignment_file(),
            units: dirs.state_dir().join("hive-units.json"),
            identity: dirs.state_dir().join("hive-id"),
        }
    }

    /// Whether this program can use what is written there; nothing is changed.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn check(&self) -> Result<(), StateError> {
        self.load_orders()?;
        self.load_units().map(drop)
    }

    /// The desired state written last. A damaged file counts as none, loudly: it must not keep a hive from starting.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load_orders(&self) -> Result<Option<StoredOrders>, StateError> {
        load(&self.orders)
    }

    /// Writes the desired state down.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn save_orders(&self, orders: &StoredOrders) -> Result<(), StateError> {
        save(&self.orders, orders)
    }

    /// What the supervisor was told; nothing where there is no file, or a damaged one.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn load_units(&self) -> Result<UnitRecords, StateError> {
        Ok(load(&self.units)?.unwrap_or_default())
    }

    /// Writes down what the supervisor is being told.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn save_units(&self, units: &UnitRecords) -> Result<(), StateError> {
        save(&self.units, units)
    }

    /// The identity of this installation, made on the first call.
    ///
    /// # Errors
    /// When the file can be neither read nor written.
    pub fn identity(&self) -> Result<String, StateError> {
        if let Some(identity) = load::<String>(&self.identity)? {
            return Ok(identity);
        }
        let identity = uuid::Uuid::new_v4().to_string();
        save(&self.identity, &identity)?;
        Ok(identity)
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { path: path.to_owned(), source }),
    };
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(source) => {
            let error = StateError::Damaged { path: path.to_owned(), source };
            tracing::error!(error = &error as &dyn std::error::Error, "going on without it");
            Ok(None)
        }
    }
}

fn save<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let write = || -> io::Result<()> {
        // Piece by piece: the whole text of thousands of workers would stay behind as free memory that nobody uses.
        let mut writer = io::BufWriter::new(AtomicWriteFile::open(path)?);
        serde_json::to_writer(&mut writer, value)?;
        writer.write_all(b"\n")?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.commit()
    };
    write().map_err(|source| StateError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rbee_api::Desired;

    use super::*;
    use crate::orders::{Configured, Orders};
    use crate::reconcile::tests::worker;

    fn files() -> (tempfile::TempDir, StateFiles) {
        let home = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(home.path());
        dirs.create().unwrap();
        (home, StateFiles::new(&dirs))
    }

    #[test]
    fn what_is_written_comes_back() {
        let (_home, files) = files();
        assert!(files.load_orders().unwrap().is_none() && files.load_units().unwrap().units.is_empty());
        let template = worker("w", 0, Desired::Running);
        let configured = BTreeMap::from([("w".to_owned(), Configured { template: template.clone(), replicas: 2 })]);
        let orders = Orders::new(configured, None).to_stored();
        files.save_orders(&orders).unwrap();
        assert_eq!(files.load_orders().unwrap(), Some(orders));
        let record = UnitRecord { worker: template, placement: Placement { port: Some(7), ..Placement::default() } };
        let records = UnitRecords { fleet_id: Some("f".into()), units: vec![record] };
        files.save_units(&records).unwrap();
        assert_eq!(files.load_units().unwrap(), records);
        assert_eq!(files.identity().unwrap(), files.identity().unwrap());
    }

    #[test]
    fn a_damaged_file_counts_as_none_and_an_unreadable_one_is_an_error() {
        let (_home, files) = files();
        std::fs::write(&files.orders, "{\"fleet").unwrap();
        std::fs::write(&files.units, "[1]").unwrap();
        assert!(files.load_orders().unwrap().is_none() && files.load_units().unwrap().units.is_empty());
        std::fs::remove_file(&files.orders).unwrap();
        std::fs::create_dir(&files.orders).unwrap();
        assert!(matches!(files.load_orders(), Err(StateError::Read { .. })));
    }
}
