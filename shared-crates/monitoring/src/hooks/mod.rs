//! Hooks: commands of `on = { KIND = … }`, run for the events of this tier's own, beside everything else.
//!
//! ```text
//!   journal publishes ─▶ rules: which commands ─▶ queue (bounded) ─▶ `sh -c`, some at once ─▶ done
//!                                                   │ full: the oldest goes      │ failed, too slow
//!                                                   └──────────▶ hook-failed ◀───┘
//! ```
//!
//! Who publishes never waits. A command gets the event as JSON to read, and what it starts ends with it.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon_lifecycle::{Errand, ExitHow, Launch, end_errands, errands_of, run_errand};
use rbee_api::{Event, EventKind};
use rbee_runtime::config::HooksConfig;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::queue::{Dropped, Job, Queue, Room};
use crate::{Journal, NewEvent};

/// Of a command so much is told in an event.
const COMMAND_LENGTH_MAX: usize = 200;
/// What is ours alone.
const NOT_INHERITED: &[&str] = &["RBEE_TOKEN"];

/// Commands by the kind of event that they are run for.
pub type On = BTreeMap<EventKind, Vec<String>>;

/// Runs hooks; clones share it.
#[derive(Debug, Clone)]
pub struct Hooks {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits, or nothing more will come.
    news: Notify,
    /// What runs is to end now.
    hurry: watch::Sender<bool>,
    /// Everything has ended.
    over: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    rules: Rules,
    queue: Queue,
    timeout: Duration,
    closed: bool,
}

/// Which commands an event has.
#[derive(Debug, Default)]
struct Rules {
    /// For every daemon.
    all: On,
    /// For a worker's replicas, by its name.
    workers: BTreeMap<String, On>,
}

impl Rules {
    fn commands<'r>(&'r self, event: &Event) -> impl Iterator<Item = &'r String> {
        let of_worker = event.daemon.split_once('/').and_then(|(name, _)| self.workers.get(name));
        of_worker.into_iter().chain([&self.all]).filter_map(move |on| on.get(&event.kind)).flatten()
    }
}

impl Hooks {
    /// Listens to the journal from now on, for events that `are_ours`: what another tier tells, too, is for its hooks. Needs a
    /// runtime, in which it goes on until it is closed.
    #[must_use]
    pub fn begin(
        journal: &Journal,
        config: &HooksConfig,
        are_ours: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> Self {
        let queue = Queue::new(room(config));
        let state = State { rules: Rules::default(), queue, timeout: config.timeout, closed: false };
        let (hurry, over) = (watch::Sender::new(false), watch::Sender::new(false));
        let shared = Arc::new(Shared { state: Mutex::new(state), news: Notify::new(), hurry, over });
        let of_listener = Arc::clone(&shared);
        journal.listen(Box::new(move |event| {
            if are_ours(event) {
                of_listener.take(event);
            }
        }));
        let (of_task, journal) = (Arc::clone(&shared), journal.clone());
        tokio::spawn(async move { of_task.run(&journal).await });
        Self { shared }
    }

    /// The commands for every daemon, and the bounds, from now on.
    pub fn use_config(&self, all: On, config: &HooksConfig) {
        let mut state = self.shared.state();
        state.rules.all = all;
        state.timeout = config.timeout;
        state.queue.use_room(room(config));
    }

    /// The commands for workers by their names, from now on.
    pub fn use_workers(&self, workers: BTreeMap<String, On>) {
        self.shared.state().rules.workers = workers;
    }

    /// Takes no more events, and waits for what there is to run; what is not done after `grace` is killed, or not run at all.
    pub async fn close(&self, grace: Duration) {
        self.shared.state().closed = true;
        self.shared.news.notify_one();
        let mut over = self.shared.over.subscribe();
        if tokio::time::timeout(grace, over.wait_for(|over| *over)).await.is_ok() {
            return;
        }
        let unrun = self.shared.state().queue.clear();
        tracing::warn!(unrun, "hooks took too long; those that run are killed");
        self.shared.hurry.send_replace(true);
        // Each ends at once now, or was given up.
        let _ = over.wait_for(|over| *over).await;
    }
}

fn room(config: &HooksConfig) -> Room {
    Room { at_once: config.at_once, waiting_max: config.waiting_max }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event) {
        let mut state = self.state();
        if state.closed || is_of_hook_for_failed_hook(event) {
            return;
        }
        let commands: Vec<String> = state.rules.commands(event).cloned().collect();
        if commands.is_empty() {
            return;
        }
        let event = Arc::new(event.clone());
        for command in commands {
            state.queue.push(Job { event: Arc::clone(&event), command });
        }
        drop(state);
        self.news.notify_one();
    }

    async fn run(self: Arc<Self>, journal: &Journal) {
        let name = errands_of(journal.history().path());
        end_what_is_left(name.clone()).await;
        let mut running: JoinSet<(Job, Result<(), String>)> = JoinSet::new();
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                Some(done) = running.join_next() => self.finish(done, journal),
            }
            let mut state = self.state();
            let timeout = state.timeout;
            while let Some(job) = state.queue.next() {
                let (name, hurry) = (name.clone(), self.hurry.subscribe());
                running.spawn(async move {
                    let done = carry_out(&job, &name, timeout, hurry).await;
                    (job, done)
                });
            }
            if state.closed && state.queue.is_idle() {
                break;
            }
        }
        self.over.send_replace(true);
    }

    fn finish(&self, done: Result<(Job, Result<(), String>), tokio::task::JoinError>, journal: &Journal) {
        let (job, done) = match done {
            Ok(done) => done,
            // Only a bug of ours ends one so; its daemon's hooks wait for ever then, everybody else's go on.
            Err(error) => return tracing::error!(%error, "a hook's task broke"),
        };
        let dropped = {
            let mut state = self.state();
            state.queue.done(&job);
            state.queue.take_dropped()
        };
        if let Err(why) = done {
            tell(journal, &job, &why, 1);
        }
        // Told when one is done, not when one is dropped: what is told may itself want a hook.
        if let Some(Dropped { count, newest }) = dropped {
            tell(journal, &newest, &format!("{count} hooks were not run: too many waited"), count);
        }
    }
}

/// Hooks of a tier that was killed: their time is nobody's any more.
async fn end_what_is_left(name: String) {
    match tokio::task::spawn_blocking(move || end_errands(&name)).await {
        Ok(Ok(0)) => {}
        Ok(Ok(count)) => tracing::warn!(count, "killed hooks that the one before us left"),
        Ok(Err(error)) => tracing::warn!(%error, "cannot look for hooks that the one before us left"),
        Err(error) => tracing::error!(%error, "a task of ours broke"),
    }
}

/// Runs one command to its end.
async fn carry_out(job: &Job, name: &str, timeout: Duration, mut hurry: watch::Receiver<bool>) -> Result<(), String> {
    let Job { event, command } = job;
    let mut launch = Launch::new("/bin/sh", ["-c", command]);
    launch.not_inherited = NOT_INHERITED;
    for (name, value) in [
        ("RBEE_EVENT_ID", event.id.to_string()),
        ("RBEE_EVENT_KIND", event.kind.to_string()),
        ("RBEE_EVENT_DAEMON", event.daemon.clone()),
        ("RBEE_EVENT_HIVE", event.hive.clone().unwrap_or_default()),
    ] {
        launch.env.insert(name.to_owned(), value);
    }
    let mut input = serde_json::to_vec(&**event).map_err(|error| error.to_string())?;
    input.push(b'\n');
    let over = async {
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            // An error means that nobody is left to hurry us.
            Ok(_) = hurry.wait_for(|hurry| *hurry) => {}
        }
    };
    let Errand { how, last_words, is_gone } =
        run_errand(&launch, name, input, over).await.map_err(|error| format!("cannot be run: {error}"))?;
    let why = match how {
        Some(ExitHow::Code(0)) if is_gone => return Ok(()),
        Some(ExitHow::Code(0)) => "left something behind that cannot be ended".to_owned(),
        Some(how) => format!("ended with {how}"),
        None => format!("was not done within {} s, and was killed", timeout.as_secs_f64()),
    };
    Err(if last_words.is_empty() { why } else { format!("{why}; its last words: {last_words}") })
}

/// Writes down that a hook failed.
fn tell(journal: &Journal, job: &Job, why: &str, count: u64) {
    let Job { event, command } = job;
    let command: String = command.chars().take(COMMAND_LENGTH_MAX).collect();
    tracing::warn!(daemon = event.daemon, kind = %event.kind, command, why, "a hook failed");
    let cause = match count {
        1 => format!("the hook `{command}` for `{}` {why}", event.kind),
        _ => why.to_owned(),
    };
    let detail = serde_json::json!({ "event": event.id, "kind": event.kind, "command": command, "count": count });
    let failed = NewEvent::now(&event.daemon, EventKind::HookFailed).with_cause(cause).with_detail(detail);
    journal.record(NewEvent { hive: event.hive.clone(), incarnation: event.incarnation, ..failed });
}

/// A hook for failed hooks that fails is told, and no hook is run for that: it would never end.
fn is_of_hook_for_failed_hook(event: &Event) -> bool {
    let of = event.detail.as_ref().and_then(|detail| detail["kind"].as_str());
    event.kind == EventKind::HookFailed && of == Some(EventKind::HookFailed.as_str())
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("state", &*self.state()).finish_non_exhaustive()
    }
}
