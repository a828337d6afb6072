//! A tier that samples itself alone: queen, whose hives sample their workers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use rbee_api::{Figures, ProcessUsage};
use rbee_runtime::config::MonitorConfig;
use tokio::time::MissedTickBehavior;

use crate::{Disk, History, Rounds, Sample, Target};

/// What was seen last; clones share it.
#[derive(Debug, Clone, Default)]
pub struct OwnUsage {
    latest: Arc<Mutex<Option<ProcessUsage>>>,
    samples: Arc<AtomicU64>,
}

impl OwnUsage {
    /// The last sample.
    #[must_use]
    pub fn latest(&self) -> Option<ProcessUsage> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Samples taken so far.
    #[must_use]
    pub fn samples(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.samples)
    }

    /// Looks at this process again and again, as `daemon`, whose files `disk` knows, for as long as it is polled.
    pub async fn keep(
        self,
        daemon: &'static str,
        mut disk: Disk,
        started: Instant,
        history: History,
        config: MonitorConfig,
    ) {
        if !config.enabled {
            return std::future::pending().await;
        }
        let target = [Target::alone(std::process::id())];
        let mut rounds = Rounds::new();
        let mut timer = tokio::time::interval(config.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                disk.look();
                let usage = rounds.look(&target).pop().flatten();
                (rounds, disk, usage)
            });
            let Ok((rounds_back, disk_back, mut usage)) = looked.await else { return };
            (rounds, disk) = (rounds_back, disk_back);
            if let Some(usage) = &mut usage {
                usage.figures.disk_bytes = disk.bytes_of(daemon);
            }
            let sample = Sample {
                running: true,
                healthy: Some(true),
                figures: usage.as_ref().map_or_else(Figures::default, |usage| usage.figures),
                uptime_s: started.elapsed().as_secs(),
                ..Sample::none(daemon)
            };
            self.samples.fetch_add(1, Ordering::Relaxed);
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = usage;
            history.add_samples(Timestamp::now(), vec![sample]);
        }
    }
}
