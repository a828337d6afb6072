//! The end of a supervisor: either nothing is left, or everything is left to the next one.

use std::collections::HashSet;
use std::path::PathBuf;
use std::{fs, io};

use tokio::sync::oneshot;

use super::owner::Owner;
use super::{Result, SupervisorError};
use crate::files;

/// Why the owner is about to end, and who waits for that.
pub(super) enum Closing {
    Shutdown(Vec<oneshot::Sender<Result<()>>>),
    Detach(Vec<oneshot::Sender<Result<()>>>),
}

impl Owner {
    pub(super) async fn finish(mut self) {
        let (waiting, result) = match self.closing.take() {
            Some(Closing::Shutdown(waiting)) => (waiting, self.remove_everything().await),
            Some(Closing::Detach(waiting)) => {
                self.close_logs().await;
                (waiting, Ok(()))
            }
            None => (Vec::new(), Ok(())),
        };
        let failure = result.err().map(|(path, source)| (path, source.kind(), source.to_string()));
        if let Some((path, _, problem)) = &failure {
            tracing::error!(file = %path.display(), problem, "shutdown left something");
        }
        // Units and jobs, and with them every watch, before anybody hears that it is over.
        let Self { units, lock, .. } = self;
        drop((units, lock));
        for reply in waiting {
            let answer = failure.as_ref().map_or(Ok(()), |(path, kind, problem)| {
                let source = io::Error::new(*kind, problem.clone());
                Err(SupervisorError::File { doing: "remove", path: path.clone(), source })
            });
            let _ = reply.send(answer);
        }
    }

    async fn close_logs(&mut self) {
        while self.logs_closing.join_next().await.is_some() {}
        self.logs.close().await;
    }

    /// FIFOs whose removal failed, or that were being made when an earlier supervisor died.
    fn fifos_left(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.paths.run_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let there = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<HashSet<PathBuf>>>()?;
        let fifos = self.units.keys().flat_map(|unit| self.paths.fifos(unit.as_str()));
        Ok(fifos.filter(|fifo| there.contains(fifo) || there.contains(&files::beside(fifo))).collect())
    }

    /// After the last process: logs to their end, then every file. The first failure, if any.
    async fn remove_everything(&mut self) -> std::result::Result<(), (PathBuf, io::Error)> {
        self.close_logs().await;
        let mut files = self.fifos_left().map_err(|source| (self.paths.run_dir.clone(), source))?;
        files.push(self.paths.notify.clone());
        files.push(self.logs.journal().to_owned());
        // Last: until then nobody else may begin here. It is let go of with the owner.
        files.push(self.paths.lock.clone());
        let mut first_failure = Ok(());
        for path in files {
            if let Err(error) = files::remove(&path) {
                first_failure = first_failure.and(Err((path, error)));
            }
        }
        first_failure
    }
}
