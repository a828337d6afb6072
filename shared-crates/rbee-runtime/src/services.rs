//! Which service manager starts queen and hive of this home: written by `service install`, read by whoever would start them otherwise.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is installed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Services {
    /// Of the machine, or of one user.
    pub scope: ServiceScope,
    /// Queen's unit.
    pub queen: Option<String>,
    /// The hive's.
    pub hive: Option<String>,
    /// Whether its user's services were made to start without a login for this (`loginctl enable-linger`).
    #[serde(default)]
    pub made_to_linger: bool,
}

/// Whose service manager it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceScope {
    /// The machine's.
    #[default]
    System,
    /// One user's.
    User,
}

impl Services {
    /// What is installed; nothing where no file says so.
    ///
    /// # Errors
    /// When the file cannot be read, or is none of ours.
    pub fn read(file: &Path) -> io::Result<Self> {
        match std::fs::read(file) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it down; nothing installed is no file.
    ///
    /// # Errors
    /// When the file cannot be written or removed.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        if self.is_empty() {
            return remove(file);
        }
        // Its folder may be another user's than ours: no file or link there is written to.
        let new = file.with_extension("json.new");
        remove(&new)?;
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
        opened.write_all(&serde_json::to_vec_pretty(self)?)?;
        opened.sync_all()?;
        std::fs::rename(&new, file)
    }

    /// Whether nothing is installed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.queen.is_none() && self.hive.is_none()
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services.json");
        assert_eq!(Services::read(&file).unwrap(), Services::default());
        let some = Services { hive: Some("rbee-hive.service".to_owned()), ..Services::default() };
        some.write(&file).unwrap();
        assert_eq!(Services::read(&file).unwrap(), some);
        Services::default().write(&file).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, "nonsense").unwrap();
        assert!(Services::read(&file).is_err());
    }
}
