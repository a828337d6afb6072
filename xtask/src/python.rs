//! Private Python environments under the target folder, without the system's venv extras or its site-packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::child;

/// An environment of its own: `bin/python` and a folder of packages.
pub(crate) struct Environment {
    folder: PathBuf,
    /// Where packages go.
    pub(crate) packages: PathBuf,
}

impl Environment {
    /// Makes the environment, or finds the one that is there.
    pub(crate) fn at(folder: &Path) -> Result<Self> {
        let python = folder.join("bin/python");
        if !python.is_file() {
            // Without pip: Debian has that part in a package of its own, and the system's pip can fill any folder.
            child::output(Command::new("python3").args(["-m", "venv", "--without-pip"]).arg(folder))
                .context("Python 3 is needed (Debian: apt-get install python3 python3-pip)")?;
        }
        let ask = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let packages = child::output(Command::new(&python).args(["-c", ask]))?.into();
        Ok(Self { folder: folder.to_owned(), packages })
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Installs exactly these, unless it was done before.
    pub(crate) fn install(&self, title: &str, requirements: &[&str], log: &Path) -> Result<()> {
        let receipt = self.folder.join("installed");
        let wanted = requirements.join("\n");
        if std::fs::read_to_string(&receipt).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--upgrade", "--no-input", "--disable-pip-version-check", "--target"])
            .arg(&self.packages)
            .args(requirements);
        child::step(title, &mut pip, log)?;
        std::fs::write(&receipt, wanted).with_context(|| format!("cannot write {}", receipt.display()))
    }
}
