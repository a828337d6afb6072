//! The service manager's watchdog: it hears of us as long as we work, and of a daemon that hangs it hears nothing.
//!
//! The pings are sent by the task that does the work, and only after the owner of the daemon's state has answered a question: a
//! timer beside the work would tell of its own health alone.

use std::future::Future;

use crate::notify;

/// Does the work, and tells a service manager that asked for it (`WATCHDOG_USEC`) that it goes on, each time `answers` has.
pub async fn watched<T, A: Future<Output = ()>>(work: impl Future<Output = T>, answers: impl Fn() -> A) -> T {
    // Pings come twice in the time the service manager grants.
    match sd_notify::watchdog_enabled().map(|granted| granted / 2) {
        Some(rest) if !rest.is_zero() => pinging(work, || tokio::time::sleep(rest), answers, notify::watchdog).await,
        _ => work.await,
    }
}

async fn pinging<T, R: Future<Output = ()>, A: Future<Output = ()>>(
    work: impl Future<Output = T>,
    rest: impl Fn() -> R,
    answers: impl Fn() -> A,
    ping: impl Fn(),
) -> T {
    let pings = async {
        loop {
            rest().await;
            answers().await;
            ping();
        }
    };
    // In one task: while the work holds the thread, nothing is said.
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

    /// How often it pings while the work goes on for five of its rests; `hangs_after` so many answers there are none.
    async fn pings(hangs_after: u32) -> u32 {
        let (count, rests, asked) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let up_to = |counter: &AtomicU32, bound| counter.fetch_add(1, Ordering::Relaxed) < bound;
        let work = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        let rest = || {
            let goes_on = up_to(&rests, 5);
            async move { if goes_on { ready(()).await } else { pending().await } }
        };
        let answers = || {
            let goes_on = up_to(&asked, hangs_after);
            async move { if goes_on { ready(()).await } else { pending().await } }
        };
        pinging(work, rest, answers, || _ = count.fetch_add(1, Ordering::Relaxed)).await;
        count.into_inner()
    }

    /// SERV-11
    #[tokio::test]
    async fn it_pings_while_there_are_answers_and_is_silent_without() {
        assert_eq!(pings(u32::MAX).await, 5);
        assert_eq!(pings(0).await, 0, "the owner hangs");
        assert_eq!(pings(2).await, 2, "it hangs from then on");
    }

    /// SERV-11
    #[tokio::test]
    async fn whoever_did_not_ask_for_pings_gets_the_work_alone() {
        assert_eq!(watched(ready(7), || async { unreachable!("nobody granted a time") }).await, 7);
    }
}
