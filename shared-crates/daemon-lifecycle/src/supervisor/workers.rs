//! A few threads for what blocks: they work off a queue, and are gone when it is empty.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in their order, so many at once. A thousand things to do are then no thousand threads.
pub(super) struct Workers {
    queue: Arc<Mutex<Queue>>,
    threads_max: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
}

impl Workers {
    pub(super) fn new(threads_max: usize) -> Self {
        Self { queue: Arc::default(), threads_max: threads_max.max(1) }
    }

    /// Must be called within a runtime.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = lock(&self.queue);
        queue.jobs.push_back(Box::new(job));
        if queue.threads < self.threads_max {
            queue.threads += 1;
            let queue = Arc::clone(&self.queue);
            tokio::task::spawn_blocking(move || work_off(&queue));
        }
    }
}

fn work_off(queue: &Mutex<Queue>) {
    while let Some(job) = next(queue) {
        // The others in the queue are not to suffer for it.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a job of the supervisor panicked");
        }
    }
}

/// Without one, the thread's place is given up, under the lock that saw the empty queue.
fn next(queue: &Mutex<Queue>) -> Option<Job> {
    let mut queue = lock(queue);
    let job = queue.jobs.pop_front();
    if job.is_none() {
        queue.threads -= 1;
    }
    job
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("threads_max", &self.threads_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn everything_is_done_and_never_by_more_threads_than_allowed() {
        let workers = Workers::new(2);
        let at_once = Arc::new(Mutex::new((0, 0)));
        let (done, finished) = mpsc::channel();
        for number in 0..100 {
            let (at_once, done) = (Arc::clone(&at_once), done.clone());
            workers.run(move || {
                {
                    let mut count = at_once.lock().unwrap();
                    count.0 += 1;
                    count.1 = count.1.max(count.0);
                }
                std::thread::yield_now();
                at_once.lock().unwrap().0 -= 1;
                done.send(number).unwrap();
            });
        }
        drop(done);
        let finished = tokio::task::spawn_blocking(move || finished.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(finished.len(), 100);
        assert!(at_once.lock().unwrap().1 <= 2);
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_the_others_nothing() {
        let workers = Workers::new(1);
        let (done, finished) = mpsc::channel();
        workers.run(|| panic!("on purpose"));
        workers.run(move || done.send(()).unwrap());
        tokio::task::spawn_blocking(move || finished.recv()).await.unwrap().unwrap();
    }
}
