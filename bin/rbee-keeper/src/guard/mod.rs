//! The guard: a keeper that stays, and sees to it that queen runs where no service manager does. On a machine without a
//! queen it guards the hive.
//!
//! `plan` decides, this file sees and does. It waits for her death and for files that come and go; the only thing it
//! asks for again and again is her health.

mod changes;
mod plan;
mod record;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use daemon_lifecycle::{DaemonError, DaemonManager, DaemonStatus, Now, Witness};
use jiff::Timestamp;
use rbee_runtime::config::{Config, GuardConfig};
use rbee_runtime::notify;
use rbee_runtime::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use self::changes::changes_of;
use self::plan::{Deed, Plan};
pub(crate) use self::record::{Doing, Record};
use crate::commands::queen::start_blocking;
use crate::context::Context;
use crate::failure::Failure;
use crate::ui::Ui;

/// How long a daemon that somebody else starts right now may take, before its health is asked for.
const READY_TIMEOUT_S: u64 = 60;

/// Which daemon is guarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ward {
    Queen,
    Hive,
}

impl Ward {
    pub(crate) fn of(config: &Config) -> Self {
        if config.starts_queen() { Self::Queen } else { Self::Hive }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Queen => "queen",
            Self::Hive => "hive",
        }
    }
}

/// What is seen of the ward.
enum Seen {
    Runs(Witness),
    Fell(u32),
    Down,
}

struct Guard {
    context: Context,
    config: Config,
    ward: Ward,
    plan: Plan,
    client: reqwest::Client,
    changes: Arc<Notify>,
    began: Instant,
    record: Record,
    file: PathBuf,
    ui: Ui,
    started_by_us: bool,
}

/// Guards until it is told to end.
pub(crate) async fn run(context: &Context, config: Config) -> Result<(), Failure> {
    let failed = |what: &str, error: &(dyn std::error::Error + 'static)| {
        Failure::new("internal", what.to_owned()).because(error)
    };
    context.dirs.create()?;
    let ward = Ward::of(&config);
    let GuardConfig { timeout, .. } = config.monitor.guard;
    let client = reqwest::Client::builder().timeout(timeout).pool_max_idle_per_host(0).build();
    let folder = match ward {
        Ward::Queen => context.dirs.run_dir().to_owned(),
        Ward::Hive => context.dirs.hives_run_dir(),
    };
    let guard = Guard {
        plan: Plan::new(&config.monitor.guard),
        client: client.map_err(|error| failed("cannot build the HTTP client", &error))?,
        changes: changes_of(&folder).map_err(|error| failed("cannot watch the run folder", &error))?,
        began: Instant::now(),
        record: Record {
            guards: ward.name().to_owned(),
            doing: Doing::Rests,
            since: Timestamp::now(),
            watched_pid: None,
            healthy: None,
            restarts: 0,
            cause: None,
        },
        file: context.dirs.guard_file(),
        ui: context.ui.clone(),
        context: context.clone(),
        config,
        ward,
        started_by_us: false,
    };
    let shutdown = Shutdown::on_signals().map_err(|error| failed("cannot listen for signals", &error))?;
    notify::ready();
    tokio::select! {
        ended = guard.keep() => ended,
        () = shutdown.draining() => Ok(()),
    }
}

impl Guard {
    async fn keep(mut self) -> Result<(), Failure> {
        self.say(&format!("guards {}", self.ward.name()));
        loop {
            match self.look().await? {
                Seen::Runs(witness) => self.watch(witness).await?,
                Seen::Fell(pid) => {
                    let deed = self.plan.fell(self.now(), pid);
                    self.carry_out(deed).await?;
                }
                Seen::Down => {
                    self.plan.rests();
                    self.now_does(Doing::Rests, None, None);
                    self.changes.notified().await;
                }
            }
        }
    }

    /// Watches one run to its end, or until another process has its place.
    async fn watch(&mut self, witness: Witness) -> Result<(), Failure> {
        let pid = witness.pid();
        let by_us = std::mem::take(&mut self.started_by_us);
        self.plan.runs(self.now(), by_us);
        self.now_does(Doing::Watches, Some(pid), None);
        let manager = self.manager();
        // Whoever starts it may take some time; its own end is seen below.
        let ready = tokio::task::spawn_blocking(move || manager.wait_ready(READY_TIMEOUT_S));
        tokio::select! {
            _ = ready => {}
            _ = witness.ended() => return Ok(()),
        }
        let mut timer = interval(self.config.monitor.guard.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Then there is another one, or none.
                _ = witness.ended() => return Ok(()),
                () = self.changes.notified() => {
                    if self.manager().witness()?.is_none_or(|now| now.pid() != pid) {
                        return self.wait_for_end(&witness).await;
                    }
                }
                _ = timer.tick() => {
                    let answer = self.ask().await;
                    self.note_health(answer.is_ok());
                    let now = self.now();
                    if let Deed::End { cause } = self.plan.asked(now, answer) {
                        if self.manager().witness()?.is_none_or(|now| now.pid() != pid) {
                            // It is being stopped, or has left its place to another: that takes its time.
                            return self.wait_for_end(&witness).await;
                        }
                        self.say(&format!("{} (pid {pid}) is ended: {cause}", self.ward.name()));
                        if let Err(error) = witness.kill() {
                            self.say(&format!("{} (pid {pid}) cannot be ended: {error}", self.ward.name()));
                        }
                    }
                }
            }
        }
    }

    /// One that was told to end, or was replaced, is waited for: it is no crash, whatever its record says meanwhile.
    async fn wait_for_end(&self, witness: &Witness) -> Result<(), Failure> {
        let pid = witness.pid();
        loop {
            if self.manager().witness()?.is_some_and(|now| now.pid() != pid) {
                return Ok(());
            }
            tokio::select! {
                _ = witness.ended() => return Ok(()),
                () = self.changes.notified() => {}
            }
        }
    }

    async fn carry_out(&mut self, mut deed: Deed) -> Result<(), Failure> {
        let name = self.ward.name();
        loop {
            match deed {
                Deed::Watch | Deed::End { .. } => return Ok(()),
                Deed::StartIn { delay, cause } => {
                    self.say(&format!("{name} is started again in {delay:?}: {cause}"));
                    self.now_does(Doing::Waits, None, Some(cause));
                    tokio::time::sleep(delay).await;
                    if !self.is_down_by_accident().await? {
                        return Ok(());
                    }
                    let (manager, port) = (self.manager(), self.port());
                    deed = match self.context.blocking(move || start_blocking(&manager, port)).await {
                        Ok((pid, _)) => {
                            self.started_by_us = true;
                            self.say(&format!("{name} runs again (pid {pid})"));
                            return Ok(());
                        }
                        Err(failure) => self.plan.start_failed(self.now(), &failure.message),
                    };
                }
                Deed::GiveUp { cause } => {
                    self.say(&format!("{name} stays down: {cause}"));
                    self.now_does(Doing::GaveUp, None, Some(cause));
                    // Somebody else starts it, or clears it away.
                    while self.is_down_by_accident().await? {
                        self.changes.notified().await;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Whether it is down although nobody stopped it: it crashed, or its last start failed.
    async fn is_down_by_accident(&self) -> Result<bool, Failure> {
        let manager = self.manager();
        let is_down = move || {
            Ok::<_, DaemonError>(manager.has_crashed()? || matches!(manager.status()?, DaemonStatus::Failed(_)))
        };
        self.context.blocking(is_down).await
    }

    const fn port(&self) -> u16 {
        match self.ward {
            Ward::Queen => self.config.queen.listen.port(),
            Ward::Hive => self.config.hive.listen.port(),
        }
    }

    async fn look(&self) -> Result<Seen, Failure> {
        let manager = self.manager();
        if let Some(witness) = manager.witness()? {
            return Ok(Seen::Runs(witness));
        }
        let fell = move || {
            Ok::<_, DaemonError>(match (manager.has_crashed()?, manager.status()?) {
                (true, DaemonStatus::Stale(pid)) => Some(pid),
                _ => None,
            })
        };
        Ok(self.context.blocking(fell).await?.map_or(Seen::Down, Seen::Fell))
    }

    /// Whether it answers within its time.
    async fn ask(&self) -> Result<(), String> {
        let url = match self.ward {
            Ward::Queen => self.context.queen_url(&self.config),
            Ward::Hive => self.context.hive_url(&self.config),
        };
        match self.client.get(format!("{url}/health")).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) if error.is_timeout() => {
                Err(format!("no answer within {:?}", self.config.monitor.guard.timeout))
            }
            Err(error) => Err(rbee_runtime::error_chain(&error)),
        }
    }

    fn manager(&self) -> DaemonManager {
        match self.ward {
            Ward::Queen => self.context.queen(&self.config),
            Ward::Hive => self.context.hive(&self.config),
        }
    }

    fn now(&self) -> Now {
        Now::from_ms(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn note_health(&mut self, healthy: bool) {
        if self.record.healthy != Some(healthy) {
            self.record.healthy = Some(healthy);
            self.write();
        }
    }

    fn now_does(&mut self, doing: Doing, watched_pid: Option<u32>, cause: Option<String>) {
        let since = Timestamp::now();
        let cause = cause.or_else(|| self.record.cause.take());
        let healthy = None;
        let restarts = self.plan.restarts();
        let guards = self.record.guards.clone();
        self.record = Record { guards, doing, since, watched_pid, healthy, restarts, cause };
        self.write();
    }

    fn write(&self) {
        if let Err(error) = self.record.write(&self.file) {
            self.say(&format!("cannot write {}: {error}", self.file.display()));
        }
    }

    /// Into the guard's log.
    fn say(&self, text: &str) {
        self.ui.note(&format!("{:.3} {text}", Timestamp::now()));
        notify::status(text);
    }
}
