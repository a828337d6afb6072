//! The new queen's side: wait until all is hers, and be the queen even where the old one dies meanwhile.
//!
//! ```text
//!   Hello ─▶ waits ──Yours──▶ takes, serves ─▶ Ready ──Named──▶ queen, with an old one that ends its last answers
//!              │ the old one dies                   │ the old one dies
//!              └─▶ names herself, takes, serves     └─▶ names herself
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daemon_lifecycle::{OwnRecord, sweep_cgroups};
use rbee_api::Heartbeat;
use rbee_runtime::error_chain;
use rbee_runtime::shutdown::Shutdown;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::line::{Estate, FromNew, FromOld, Line};
use crate::fleet::View;
use crate::queen::QueenError;
use crate::registry::Registry;

/// How long a manager that is at work may hold up the name.
const RECORD_TIMEOUT: Duration = Duration::from_secs(15);

/// The queen whose place we take.
#[derive(Debug)]
pub struct Predecessor {
    line: Line<FromOld>,
    record: Naming,
    managed: bool,
}

/// How the PID file comes to name us.
#[derive(Debug, Clone)]
struct Naming {
    pid_file: PathBuf,
    /// The old queen.
    old: u32,
    word: String,
}

/// What was agreed with the old queen, or found at her death.
#[derive(Debug, Default)]
pub struct Inherited {
    /// What she knew.
    pub estate: Estate,
    /// Held until we serve: no manager starts another queen meanwhile.
    pub record: Option<OwnRecord>,
}

impl Predecessor {
    /// `word`: what the old queen said in the environment. Needs a tokio runtime.
    #[must_use]
    pub fn new(line: UnixStream, word: &str, pid_file: PathBuf) -> Self {
        let managed = pid_file.exists();
        let record = Naming { pid_file, old: std::os::unix::process::parent_id(), word: word.to_owned() };
        Self { line: Line::new(line), record, managed }
    }

    /// Waits until all is ours.
    ///
    /// # Errors
    /// Told to stop meanwhile; or she died, and somebody else has her place already.
    pub async fn inherit(&mut self, shutdown: &Shutdown) -> Result<Inherited, String> {
        self.line.say(&FromNew::Hello).await;
        let heard = tokio::select! {
            heard = self.line.hear() => heard,
            () = shutdown.draining() => return Err("told to stop before anything was handed over".to_owned()),
        };
        match heard {
            Some(FromOld::Yours(estate)) => Ok(Inherited { estate: *estate, record: None }),
            Some(FromOld::Named) => Err("the old queen speaks out of turn".to_owned()),
            None => {
                tracing::warn!("the old queen died before she handed over: this one takes her place");
                let record = self.record.clone().name().await?;
                if self.managed && record.is_none() {
                    return Err("the old queen died, and somebody else has her place already".to_owned());
                }
                Ok(Inherited { estate: Estate::default(), record })
            }
        }
    }

    /// Tells the old queen why it will not be.
    pub async fn refuse(&mut self, error: &QueenError) {
        self.line.say(&FromNew::Refused(error_chain(error))).await;
    }

    /// We serve: from now on we are the queen.
    pub async fn succeed(mut self, registry: &Registry) -> Succession {
        self.line.say(&FromNew::Ready).await;
        let Self { mut line, record, .. } = self;
        let mut views = registry.views();
        let (stop, mut stops) = tokio::sync::mpsc::channel::<bool>(1);
        let task = tokio::spawn(async move {
            match line.hear().await {
                Some(FromOld::Named) => {}
                _ => match record.clone().name().await {
                    Ok(_) => tracing::warn!("the old queen died in the middle; the PID file names this one now"),
                    Err(error) => tracing::error!(error, "the PID file names the old queen, who is dead"),
                },
            }
            // Until she has written her last answer.
            let mut told = BTreeMap::new();
            loop {
                tokio::select! {
                    heard = line.hear() => if heard.is_none() { break },
                    Some(now) = stops.recv() => line.say(&FromNew::Stop { now }).await,
                    Ok(()) = views.changed() => {
                        let view = Arc::clone(&views.borrow_and_update());
                        tell(&mut line, &view, &mut told).await;
                    }
                }
            }
            if let Some(run_dir) = record.pid_file.parent() {
                sweep_cgroups(run_dir);
            }
            tracing::info!("the old queen has ended");
        });
        Succession { stop, task }
    }
}

/// Passes on what hives said since the last time.
async fn tell(line: &mut Line<FromOld>, view: &View, told: &mut BTreeMap<String, Arc<Heartbeat>>) {
    for (name, hive) in &view.hives {
        let Some(heartbeat) = &hive.heartbeat else { continue };
        if told.get(name).is_some_and(|last| Arc::ptr_eq(last, heartbeat)) {
            continue;
        }
        told.insert(name.clone(), Arc::clone(heartbeat));
        let heartbeat = Box::new((**heartbeat).clone());
        line.say(&FromNew::Heard { hive: name.clone(), heartbeat }).await;
    }
}

impl Naming {
    /// Writes our name where the old queen's stands; `None` where it does not.
    async fn name(self) -> Result<Option<OwnRecord>, String> {
        let naming = tokio::task::spawn_blocking(move || {
            let Some(mut record) = OwnRecord::hold(&self.pid_file, self.old, RECORD_TIMEOUT)? else { return Ok(None) };
            record.name_ourselves(&self.word)?;
            Ok(Some(record))
        });
        match naming.await {
            Ok(named) => named.map_err(|error: daemon_lifecycle::RecordError| error_chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The old queen, until her last answer is written.
#[derive(Debug)]
pub struct Succession {
    stop: tokio::sync::mpsc::Sender<bool>,
    task: JoinHandle<()>,
}

impl Succession {
    /// Resolves when the old one has ended.
    pub async fn gone(&mut self) {
        if !self.task.is_finished() {
            // A task that broke off has nothing to wait for.
            let _ = (&mut self.task).await;
        }
    }

    /// Ends the old one too, at once where `now`; returns when she is gone, within `timeout`.
    pub async fn end(&mut self, now: bool, timeout: Duration) {
        // A full queue means that it is being said.
        let _ = self.stop.try_send(now);
        if !self.task.is_finished() && tokio::time::timeout(timeout, &mut self.task).await.is_err() {
            tracing::warn!(?timeout, "the queen before this one still writes answers; she ends by herself");
        }
    }
}
