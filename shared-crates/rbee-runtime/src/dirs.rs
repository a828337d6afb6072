//! Where files live: one folder under `RBEE_HOME`, else the XDG places.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::env::Env;

/// The folders and files of one installation. Paths are absolute; nothing is created by making one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    config: PathBuf,
    state: PathBuf,
    models: PathBuf,
    run: PathBuf,
}

/// Why the folders could not be determined or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirsError {
    /// Neither `RBEE_HOME`, `HOME` nor the XDG variables say where files belong.
    #[error("cannot tell where {what} belongs: neither RBEE_HOME nor HOME is set")]
    NoHome {
        /// What was looked for.
        what: &'static str,
    },
    /// `RBEE_HOME` is relative and the current folder is unknown.
    #[error("cannot make RBEE_HOME={} absolute", path.display())]
    Relative {
        /// The value given.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A folder could not be made.
    #[error("cannot create the folder {}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Dirs {
    /// The folders that `env` asks for.
    ///
    /// # Errors
    /// [`DirsError::NoHome`] when no variable names a place.
    pub fn from_env(env: &Env) -> Result<Self, DirsError> {
        if let Some(home) = &env.rbee_home {
            let home =
                std::path::absolute(home).map_err(|source| DirsError::Relative { path: home.clone(), source })?;
            return Ok(Self::under(&home));
        }
        let place = |given: &Option<PathBuf>, below_home: &str, what| match (given, &env.home) {
            (Some(dir), _) => Ok(dir.join("rbee")),
            (None, Some(home)) => Ok(home.join(below_home).join("rbee")),
            (None, None) => Err(DirsError::NoHome { what }),
        };
        let state = place(&env.xdg_state_home, ".local/state", "the state folder")?;
        let run = match &env.xdg_runtime_dir {
            Some(dir) => dir.join("rbee"),
            None => state.join("run"),
        };
        Ok(Self {
            config: place(&env.xdg_config_home, ".config", "the configuration")?,
            models: place(&env.xdg_data_home, ".local/share", "the model folder")?.join("models"),
            state,
            run,
        })
    }

    /// Everything below one folder, as `RBEE_HOME` does.
    #[must_use]
    pub fn under(home: &Path) -> Self {
        Self {
            config: home.to_path_buf(),
            state: home.join("state"),
            models: home.join("state/models"),
            run: home.join("run"),
        }
    }

    /// Folder of the configuration file and the token.
    #[must_use]
    pub fn config_dir(&self) -> &Path {
        &self.config
    }

    /// Default configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("rbee.toml")
    }

    /// Bearer token of this machine's daemons.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.config.join("token")
    }

    /// What must survive a reboot: queen's store, the hive's last assignment, logs.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Queen's database.
    #[must_use]
    pub fn queen_store_file(&self) -> PathBuf {
        self.state.join("queen.sqlite")
    }

    /// Folder of what queen, hive and keeper's guard know of the past.
    #[must_use]
    pub fn monitor_dir(&self) -> PathBuf {
        self.state.join("monitor")
    }

    /// How keeper's guard is: what it guards, and what it did.
    #[must_use]
    pub fn guard_file(&self) -> PathBuf {
        self.monitor_dir().join("guard.json")
    }

    /// PID file of keeper's guard.
    #[must_use]
    pub fn guard_pid_file(&self) -> PathBuf {
        self.run.join("monitor.pid")
    }

    /// Log of keeper's guard.
    #[must_use]
    pub fn guard_log_file(&self) -> PathBuf {
        self.log_dir().join("monitor.log")
    }

    /// Queen's history: her samples, events and requests.
    #[must_use]
    pub fn queen_history_file(&self) -> PathBuf {
        self.monitor_dir().join("queen.sqlite")
    }

    /// The hive's history: samples and events of its workers.
    #[must_use]
    pub fn hive_history_file(&self) -> PathBuf {
        self.monitor_dir().join("hive.sqlite")
    }

    /// How the paths of all files begin that queen writes and keeps: her log, her stores, her history.
    #[must_use]
    pub fn queen_files(&self) -> Vec<PathBuf> {
        vec![self.queen_log_file(), self.state.join("queen"), self.queen_history_file()]
    }

    /// As [`Self::queen_files`], for the hive called `name`.
    #[must_use]
    pub fn hive_files(&self, name: &str) -> Vec<PathBuf> {
        let log = self.hives_log_dir().join(format!("{name}.log"));
        vec![log, self.state.join("hive-"), self.hive_history_file()]
    }

    /// Where queen listened last: with `listen` on port 0 she gets the same port again, as long as it is free.
    #[must_use]
    pub fn queen_listen_file(&self) -> PathBuf {
        self.state.join("queen-listen")
    }

    /// The newest assignment a hive has got, to go on with when queen is away.
    #[must_use]
    pub fn hive_assignment_file(&self) -> PathBuf {
        self.state.join("hive-assignment.json")
    }

    /// Which service manager starts queen and hive, where one does.
    #[must_use]
    pub fn services_file(&self) -> PathBuf {
        self.state.join("services.json")
    }

    /// Folder of all logs.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Queen's log.
    #[must_use]
    pub fn queen_log_file(&self) -> PathBuf {
        self.log_dir().join("queen.log")
    }

    /// Folder of the hives' logs, `<hive>.log` each.
    #[must_use]
    pub fn hives_log_dir(&self) -> PathBuf {
        self.log_dir().join("hives")
    }

    /// Folder of the workers' logs, `<name>.<replica>.log` each.
    #[must_use]
    pub fn workers_log_dir(&self) -> PathBuf {
        self.log_dir().join("workers")
    }

    /// Folder of downloaded models.
    #[must_use]
    pub fn models_dir(&self) -> &Path {
        &self.models
    }

    /// What need not survive a reboot: PID files, locks, FIFOs.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Queen's PID file; its state file and lock stand beside it.
    #[must_use]
    pub fn queen_pid_file(&self) -> PathBuf {
        self.run.join("queen.pid")
    }

    /// Lock that queen holds for life.
    #[must_use]
    pub fn queen_life_lock_file(&self) -> PathBuf {
        self.run.join("queen-rbee.lock")
    }

    /// Folders that the hive makes for its workers' own files (`{run_dir}` in commands).
    #[must_use]
    pub fn worker_files_dir(&self) -> PathBuf {
        self.run.join("worker-files")
    }

    /// Run files of the hives that queen supervises.
    #[must_use]
    pub fn hives_run_dir(&self) -> PathBuf {
        self.run.join("hives")
    }

    /// PID file of the hive called `name`.
    #[must_use]
    pub fn hive_pid_file(&self, name: &str) -> PathBuf {
        self.hives_run_dir().join(format!("{name}.pid"))
    }

    /// Run files of the workers that this machine's hive supervises.
    #[must_use]
    pub fn workers_run_dir(&self) -> PathBuf {
        self.run.join("workers")
    }

    /// Makes all folders, readable by their owner only. Existing ones keep their mode.
    ///
    /// # Errors
    /// [`DirsError::Create`] with the folder that could not be made.
    pub fn create(&self) -> Result<(), DirsError> {
        let all = [
            self.config.clone(),
            self.state.clone(),
            self.log_dir(),
            self.hives_log_dir(),
            self.workers_log_dir(),
            self.models.clone(),
            self.run.clone(),
            self.hives_run_dir(),
            self.workers_run_dir(),
        ];
        for path in all {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(|source| DirsError::Create { path, source })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Dirs, DirsError};
    use crate::env::Env;

    #[test]
    fn rbee_home_wins_and_holds_everything() {
        let env = Env {
            rbee_home: Some("/r".into()),
            home: Some("/home/a".into()),
            xdg_runtime_dir: Some("/run/user/1".into()),
            ..Env::default()
        };
        let dirs = Dirs::from_env(&env).unwrap();
        assert_eq!(dirs.config_file(), Path::new("/r/rbee.toml"));
        assert_eq!(dirs.token_file(), Path::new("/r/token"));
        assert_eq!(dirs.log_dir(), Path::new("/r/state/logs"));
        assert_eq!(dirs.models_dir(), Path::new("/r/state/models"));
        assert_eq!(dirs.queen_pid_file(), Path::new("/r/run/queen.pid"));
    }

    #[test]
    fn xdg_places_without_rbee_home() {
        let env = Env { home: Some("/home/a".into()), xdg_data_home: Some("/data".into()), ..Env::default() };
        let dirs = Dirs::from_env(&env).unwrap();
        assert_eq!(dirs.config_file(), Path::new("/home/a/.config/rbee/rbee.toml"));
        assert_eq!(dirs.state_dir(), Path::new("/home/a/.local/state/rbee"));
        assert_eq!(dirs.models_dir(), Path::new("/data/rbee/models"));
        assert_eq!(dirs.run_dir(), Path::new("/home/a/.local/state/rbee/run"));
        let env = Env { xdg_runtime_dir: Some("/run/user/1".into()), ..env };
        let dirs = Dirs::from_env(&env).unwrap();
        assert_eq!(dirs.run_dir(), Path::new("/run/user/1/rbee"));
    }

    #[test]
    fn no_home_is_an_error() {
        let result = Dirs::from_env(&Env::default());
        assert!(matches!(result, Err(DirsError::NoHome { .. })));
    }

    #[test]
    fn created_folders_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(&temp.path().join("rbee"));
        dirs.create().unwrap();
        dirs.create().unwrap();
        for dir in [dirs.config_dir(), dirs.models_dir(), &dirs.workers_run_dir()] {
            let mode = dir.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn an_impossible_folder_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Dirs::under(&file).create().unwrap_err();
        assert!(error.to_string().contains(&file.display().to_string()));
    }
}
