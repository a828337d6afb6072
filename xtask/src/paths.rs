//! Where things are: the checkout, the target folder, what xtask keeps there.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The places xtask works in.
pub(crate) struct Paths {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
}

impl Paths {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask stands in no checkout")?;
        // target/PROFILE/xtask: right for CARGO_TARGET_DIR and build.target-dir alike.
        let exe = env::current_exe().context("where am I?")?;
        let target = exe.ancestors().nth(2).context("xtask was not started by cargo")?;
        Ok(Self { root: root.to_owned(), target: target.to_owned() })
    }

    /// Binaries of a profile.
    pub(crate) fn binaries(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" })
    }

    /// Output of quiet steps.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.target.join("xtask").join(format!("{step}.log"))
    }

    /// The test model's store.
    pub(crate) fn models(&self) -> PathBuf {
        self.target.join("models")
    }

    /// Build tools in a private Python environment, where the system has none.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// The Python environment of the end-to-end tests' clients.
    pub(crate) fn python(&self) -> PathBuf {
        self.target.join("python")
    }
}

/// The first of that name on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}
