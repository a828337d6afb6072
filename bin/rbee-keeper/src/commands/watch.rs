//! `status --watch` where there is no terminal: the tree once, then a line for each change of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rbee_api::{FleetStatus, Phase};
use rbee_runtime::config::Config;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Notify, mpsc};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::feeds::{self, News};
use crate::ui::{fleet_tree, harmless};

/// News that wait to be printed.
const NEWS_MAX: usize = 64;

/// One daemon's way from one state to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    /// Absent for queen.
    hive: Option<String>,
    /// `queen`, `hive`, or `NAME/REPLICA`.
    daemon: String,
    /// Absent where it is new.
    from: Option<Phase>,
    /// Absent where it is gone.
    to: Option<Phase>,
    pid: Option<u32>,
    restarts: u32,
    healthy: Option<bool>,
    reason: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |phase: Option<Phase>, none: &'static str| phase.map_or(none, Phase::as_str);
        match (&self.hive, self.daemon.as_str()) {
            (Some(hive), "hive") => write!(f, "hive {hive}")?,
            (Some(hive), daemon) => write!(f, "{hive}:{daemon}")?,
            (None, daemon) => f.write_str(daemon)?,
        }
        write!(f, "  {} → {}", word(self.from, "new"), word(self.to, "gone"))?;
        if self.healthy == Some(false) {
            f.write_str(", unhealthy")?;
        }
        if let Some(pid) = self.pid {
            write!(f, " (pid {pid})")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

/// Prints until nobody reads.
pub(super) async fn run(context: &Context, config: &Config, every: Duration) -> Result<Exit, Failure> {
    let (out, mut news) = mpsc::channel(NEWS_MAX);
    let wake = Arc::new(Notify::new());
    tokio::spawn(feeds::status(context.clone(), config.clone(), every, Arc::clone(&wake), out.clone()));
    tokio::spawn(feeds::events(context.clone(), config.clone(), out));
    let mut told = Told::default();
    while let Some(news) = news.recv().await {
        let printed = match news {
            News::Status(fleet, notes) => told.status(context, *fleet, &notes),
            News::NoStatus(why) => told.nothing(context, &why),
            News::Event(_) => {
                wake.notify_one();
                Ok(())
            }
            // The timer is enough.
            News::NoEvents(_) => Ok(()),
        };
        match printed {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::DONE),
            other => other.map_err(|error| Failure::new("output", "cannot write").because(&error))?,
        }
    }
    Ok(Exit::DONE)
}

/// What was printed last.
#[derive(Default)]
struct Told {
    fleet: Option<FleetStatus>,
    trouble: Option<String>,
}

impl Told {
    fn status(&mut self, context: &Context, fleet: FleetStatus, notes: &[String]) -> io::Result<()> {
        self.trouble = None;
        let at = Timestamp::now();
        match &self.fleet {
            None if context.ui.is_json() => context.ui.json_line(&json!({ "at": at, "status": fleet }))?,
            None => context.ui.stream(fleet_tree(&fleet, context.ui.color()).as_bytes())?,
            Some(before) => {
                for change in changes(before, &fleet, notes) {
                    print(context, at, "change", &change, &change.to_string())?;
                }
            }
        }
        self.fleet = Some(fleet);
        Ok(())
    }

    fn nothing(&mut self, context: &Context, why: &str) -> io::Result<()> {
        if self.trouble.as_deref() == Some(why) {
            return Ok(());
        }
        self.trouble = Some(why.to_owned());
        print(context, Timestamp::now(), "trouble", &why, why)
    }
}

fn print<T: Serialize>(context: &Context, at: Timestamp, key: &str, value: &T, text: &str) -> io::Result<()> {
    if context.ui.is_json() {
        context.ui.json_line(&json!({ "at": at, key: value }))
    } else {
        let at = at.strftime("%Y-%m-%d %H:%M:%SZ");
        context.ui.stream(format!("{at}  {}\n", harmless(text)).as_bytes())
    }
}

/// Every daemon of a tree as one that is there now, in the order of the tree's names.
fn daemons(fleet: &FleetStatus, notes: &[String]) -> BTreeMap<(Option<String>, String), Change> {
    let queen = fleet.queen.as_ref().map(|queen| Change {
        hive: None,
        daemon: "queen".to_owned(),
        from: None,
        to: Some(queen.phase),
        pid: queen.pid,
        restarts: queen.restarts,
        healthy: None,
        reason: notes.first().filter(|_| queen.phase != Phase::Running).cloned(),
    });
    let hives = fleet.hives.iter().map(|hive| Change {
        hive: Some(hive.name.clone()),
        daemon: "hive".to_owned(),
        from: None,
        to: Some(hive.phase),
        pid: hive.pid,
        restarts: hive.restarts,
        healthy: None,
        reason: hive.reason.clone(),
    });
    let workers = fleet.workers().map(|(hive, worker)| Change {
        hive: Some(hive.to_owned()),
        daemon: format!("{}/{}", worker.name, worker.replica),
        from: None,
        to: Some(worker.phase),
        pid: worker.pid,
        restarts: worker.restarts,
        healthy: worker.health.as_ref().map(|health| health.healthy),
        reason: worker.reason.clone(),
    });
    let all = queen.into_iter().chain(hives).chain(workers);
    all.map(|change| ((change.hive.clone(), change.daemon.clone()), change)).collect()
}

/// What is otherwise now: a phase, a process (it restarted between two looks), its health, that it is there at all.
fn changes(before: &FleetStatus, now: &FleetStatus, notes: &[String]) -> Vec<Change> {
    let mut before = daemons(before, &[]);
    let mut changes = Vec::new();
    for (key, mut change) in daemons(now, notes) {
        let known = before.remove(&key);
        change.from = known.as_ref().and_then(|known| known.to);
        let is_new = known.is_none_or(|known| {
            (known.to, known.pid, known.healthy == Some(false))
                != (change.to, change.pid, change.healthy == Some(false))
        });
        if is_new {
            changes.push(change);
        }
    }
    changes.extend(before.into_values().map(|gone| Change {
        from: gone.to,
        to: None,
        pid: None,
        reason: None,
        ..gone
    }));
    changes
}

#[cfg(test)]
mod tests {
    use rbee_api::{HiveStatus, WorkerStatus};

    use super::*;
    use crate::ui::{sample_hive, sample_worker};

    fn tree(workers: Vec<WorkerStatus>) -> FleetStatus {
        let hive = HiveStatus { workers, ..sample_hive() };
        FleetStatus { queen: None, hives: vec![hive] }
    }

    fn told(before: Vec<WorkerStatus>, now: Vec<WorkerStatus>) -> Vec<String> {
        changes(&tree(before), &tree(now), &[]).iter().map(ToString::to_string).collect()
    }

    /// KEEP-18
    #[test]
    fn a_line_for_each_change_and_none_without() {
        let runs = || sample_worker(0, Phase::Running);
        let failed = || sample_worker(0, Phase::Failed);
        assert_eq!(told(vec![runs()], vec![runs()]), Vec::<String>::new());
        let busy = WorkerStatus { cpu_percent: 99.0, rss_bytes: 1, uptime_s: 9999.0, ..runs() };
        assert_eq!(told(vec![runs()], vec![busy]), Vec::<String>::new());
        assert_eq!(told(vec![runs()], vec![failed()]), ["local:smollm2/0  running → failed: exit code 1"]);
        let other = WorkerStatus { pid: Some(7), ..runs() };
        assert_eq!(told(vec![runs()], vec![other]), ["local:smollm2/0  running → running (pid 7)"]);
        assert_eq!(told(vec![], vec![runs()]), ["local:smollm2/0  new → running (pid 103)"]);
        assert_eq!(told(vec![runs()], vec![]), ["local:smollm2/0  running → gone"]);
    }
}
