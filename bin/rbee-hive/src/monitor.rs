//! One timer for all workers: every so often all are looked at, kept in the history, and held against their thresholds.
//!
//! ```text
//!   timer ─▶ look (a thread of its own) ─┬─▶ history          (reports, the past)
//!                                        ├─▶ sampler          (status, metrics: the present)
//!                                        └─▶ above a threshold for long enough ─▶ supervisor
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use monitoring::{Crossings, Disk, History, Rounds, Sample, Sampler, Target};
use rbee_api::{Figures, Phase, ProcessUsage, ReplicaId};
use rbee_runtime::config::MonitorConfig;
use tokio::time::MissedTickBehavior;

use crate::pool::Pool;
use crate::view::WorkerView;

/// What the rounds look at, and where that goes.
#[derive(Debug)]
pub struct Monitor {
    /// The workers.
    pub pool: Pool,
    /// Where samples are kept.
    pub history: History,
    /// Where the newest are asked for.
    pub sampler: Arc<Mutex<Sampler>>,
    /// Samples taken since the start.
    pub samples: Arc<AtomicU64>,
    /// What the workers and the hive itself take on disk.
    pub disk: Disk,
    /// When the hive started.
    pub started: Instant,
}

/// What must not be done on a task that others wait for.
#[derive(Debug)]
struct Looking {
    rounds: Rounds,
    disk: Disk,
}

impl Monitor {
    /// Looks at all again and again, for as long as it is polled.
    pub async fn run(mut self, config: MonitorConfig) {
        if !config.enabled {
            return std::future::pending().await;
        }
        let mut looking = Looking { rounds: Rounds::new(), disk: std::mem::take(&mut self.disk) };
        let mut crossings: HashMap<ReplicaId, Crossings> = HashMap::new();
        let mut timer = tokio::time::interval(config.interval);
        // After a pause of the machine one round is enough.
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let workers = Arc::clone(&self.pool.view().borrow().workers);
            let targets: Vec<Target> =
                std::iter::once(Target::alone(std::process::id())).chain(workers.iter().map(target)).collect();
            let looked = tokio::task::spawn_blocking(move || {
                looking.disk.look();
                let usages = looking.rounds.look(&targets);
                (looking, usages)
            });
            let Ok((back, usages)) = looked.await else { return };
            looking = back;
            self.keep(&workers, &usages, &looking.disk);
            self.judge(&workers, usages.get(1..).unwrap_or_default(), &mut crossings).await;
        }
    }

    fn keep(&self, workers: &[WorkerView], usages: &[Option<ProcessUsage>], disk: &Disk) {
        let at = Timestamp::now();
        let figures = |usage: Option<&ProcessUsage>, disk_bytes: u64| Figures {
            disk_bytes,
            ..usage.map_or_else(Figures::default, |usage| usage.figures)
        };
        let mut learned: HashMap<u32, ProcessUsage> = HashMap::with_capacity(usages.len());
        let own = usages.first().and_then(Option::as_ref);
        let own_figures = figures(own, disk.bytes_of("hive"));
        learned.extend(own.map(|usage| (std::process::id(), ProcessUsage { figures: own_figures, ..usage.clone() })));
        let mut samples = vec![Sample {
            running: true,
            healthy: Some(true),
            figures: own_figures,
            uptime_s: self.started.elapsed().as_secs(),
            ..Sample::none("hive")
        }];
        for (worker, usage) in workers.iter().zip(usages.iter().skip(1)) {
            let status = worker.status_now();
            let id = worker.id();
            let figures = figures(usage.as_ref(), disk.bytes_of(&id.unit_name()));
            samples.push(Sample {
                figures,
                incarnation: status.incarnation,
                running: status.phase == Phase::Running,
                healthy: status.health.as_ref().map(|health| health.healthy),
                uptime_s: status.uptime_s as u64,
                restarts: u64::from(status.restarts),
                ..Sample::none(id.to_string())
            });
            if let Some((pid, usage)) = status.pid.zip(usage.clone()) {
                learned.insert(pid, ProcessUsage { figures, ..usage });
            }
        }
        self.samples.fetch_add(samples.len() as u64, Ordering::Relaxed);
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner).learn(learned);
        self.history.add_samples(at, samples);
    }

    async fn judge(
        &self,
        workers: &[WorkerView],
        usages: &[Option<ProcessUsage>],
        crossings: &mut HashMap<ReplicaId, Crossings>,
    ) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let watched: HashMap<ReplicaId, _> = workers
            .iter()
            .zip(usages)
            .filter_map(|(worker, usage)| {
                Some((worker.id(), (worker, worker.thresholds.as_ref()?, &usage.as_ref()?.figures)))
            })
            .collect();
        crossings.retain(|id, _| watched.contains_key(id));
        for (id, (worker, thresholds, used)) in watched {
            let incarnation = worker.status.incarnation;
            let above = crossings.entry(id.clone()).or_default().judge(now_ms, incarnation, thresholds, used);
            for excess in above {
                if let Err(error) = self.pool.over_threshold(&id, incarnation, excess, thresholds.restarts).await {
                    // It went meanwhile, or we end.
                    tracing::debug!(worker = %id, error = &error as &dyn std::error::Error, "no threshold any more");
                }
            }
        }
    }
}

fn target(worker: &WorkerView) -> Target {
    // Nobody has the number 0: nothing is found there.
    Target { payload: worker.payload, ..Target::tree(worker.status.pid.unwrap_or(0)) }
}

/// How long the history may take to be written when the hive ends.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Writes what waits.
pub(crate) async fn close(history: &History) {
    match tokio::time::timeout(CLOSE_TIMEOUT, history.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = &error as &dyn std::error::Error, "the newest of the history is lost"),
        Err(_) => tracing::warn!("the history is not written yet; the newest of it is lost"),
    }
}
