//! The service manager's watchdog: it hears of us as long as we work, and of a daemon that hangs it hears nothing.
//!
//! The pings are sent by the task that does the work, and only after the owner of the daemon's state has answered a question: a
//! timer beside the work would tell of its own health alone.

use std::future::Future;

use tokio::time::MissedTickBehavior;

use crate::notify;

/// Does the work, and tells a service manager that asked for it (`WATCHDOG_USEC`) that it goes on, each time `answers` has.
pub async fn watched<T>(work: impl Future<Output = T>, answers: impl AsyncFn()) -> T {
    // Pings come twice in the time the service manager grants.
    match sd_notify::watchdog_enabled().map(|granted| granted / 2) {
        Some(interval) if !interval.is_zero() => {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pinging(work, async || _ = ticks.tick().await, answers, notify::watchdog).await
        }
        _ => work.await,
    }
}

async fn pinging<T>(
    work: impl Future<Output = T>,
    mut tick: impl AsyncFnMut(),
    answers: impl AsyncFn(),
    ping: impl Fn(),
) -> T {
    let pings = async {
        loop {
            tick().await;
            answers().await;
            ping();
        }
    };
    tokio::select! {
        biased;
        done = work => done,
        never = pings => never,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// How often it pings in five ticks.
    async fn pings(answers: impl AsyncFn()) -> u32 {
        let (count, mut left) = (AtomicU32::new(0), 5_u32);
        let tick = async || match left.checked_sub(1) {
            Some(less) => left = less,
            None => pending().await,
        };
        let work = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        pinging(work, tick, answers, || _ = count.fetch_add(1, Ordering::Relaxed)).await;
        count.into_inner()
    }

    /// SERV-11
    #[tokio::test]
    async fn it_pings_while_there_are_answers_and_is_silent_without() {
        assert_eq!(pings(async || ()).await, 5);
        assert_eq!(pings(pending).await, 0, "the owner hangs");
        let asked = AtomicU32::new(0);
        let once = async || if asked.fetch_add(1, Ordering::Relaxed) > 0 { pending().await } else { ready(()).await };
        assert_eq!(pings(once).await, 1, "it hangs from now on");
    }

    /// SERV-11
    #[tokio::test]
    async fn whoever_did_not_ask_for_pings_gets_the_work_alone() {
        assert_eq!(watched(ready(7), async || unreachable!("nobody granted a time")).await, 7);
    }
}
