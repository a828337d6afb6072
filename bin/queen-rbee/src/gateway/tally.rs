//! How the requests for each model go: counted in memory without a lock held, written to the history a little later.
//!
//! ```text
//!   a request ends ─▶ Ticket dropped ─▶ atomic counts of its model ──5 s later, or at the end──▶ history (a minute each)
//! ```
//!
//! A queen that is killed loses the last seconds of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use monitoring::History;
use monitoring::report::{AtomicHistogram, RequestCounts};
use rbee_api::openai;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::usage::Account;

/// How long counts wait for others before they are written.
const WRITE_DELAY: Duration = Duration::from_secs(5);

/// The counts of all models. Clones share them.
#[derive(Debug, Clone)]
pub struct Tallies {
    shared: Arc<Shared>,
    /// Writes by and by, for as long as anybody counts.
    _writer: Arc<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Only models of the config are ever asked for here, so they are few. Written when one is asked for first.
    models: RwLock<HashMap<String, Arc<Tally>>>,
    /// Something was counted that is not written.
    dirty: AtomicBool,
    changed: Notify,
    history: History,
}

/// The counts of one model since they were last written.
#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    errors: AtomicU64,
    abandoned: AtomicU64,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    latency: AtomicHistogram,
    first_token: AtomicHistogram,
}

/// One request; counted when it is dropped.
#[derive(Debug)]
struct Ticket {
    tally: Arc<Tally>,
    shared: Arc<Shared>,
    arrived: Instant,
    ended: Option<Ended>,
    usage: Option<openai::Usage>,
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Well,
    Badly,
}

/// What is written down of one request: for its model, and for the key that asked.
#[derive(Debug)]
pub(super) struct Ledger {
    ticket: Ticket,
    account: Option<Account>,
}

impl Tallies {
    /// Counts into `history` from now on.
    #[must_use]
    pub fn start(history: History) -> Self {
        let shared = Arc::new(Shared {
            models: RwLock::default(),
            dirty: AtomicBool::new(false),
            changed: Notify::new(),
            history,
        });
        let written = Arc::clone(&shared);
        let writer = tokio::spawn(async move {
            loop {
                written.changed.notified().await;
                tokio::time::sleep(WRITE_DELAY).await;
                written.write();
            }
        });
        Self { shared, _writer: Arc::new(AbortOnDropHandle::new(writer)) }
    }

    /// Hands all that was counted to the history; that is to be flushed or closed after this.
    pub fn write(&self) {
        self.shared.write();
    }

    /// Hands all that was counted to the history, and closes that.
    pub async fn close(&self) {
        self.write();
        if let Err(error) = self.shared.history.close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the end of the history is lost");
        }
    }

    /// A request that came at `arrived`; `account`: of the key that asked.
    pub(super) fn ledger(&self, model: &str, arrived: Instant, account: Option<Account>) -> Ledger {
        let shared = Arc::clone(&self.shared);
        let tally = shared.of(model);
        Ledger { ticket: Ticket { tally, shared, arrived, ended: None, usage: None, has_begun: false }, account }
    }
}

impl Shared {
    fn of(&self, model: &str) -> Arc<Tally> {
        if let Some(tally) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model) {
            return Arc::clone(tally);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(models.entry(model.to_owned()).or_default())
    }

    fn write(&self) {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let counts: Vec<_> = models
            .iter()
            .map(|(model, tally)| (model.clone(), tally.take()))
            .filter(|(_, counts)| !counts.is_empty())
            .collect();
        drop(models);
        if !counts.is_empty() {
            self.history.add_requests(Timestamp::now(), counts);
        }
    }
}

impl Tally {
    fn take(&self) -> RequestCounts {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        RequestCounts {
            requests: take(&self.requests),
            errors: take(&self.errors),
            abandoned: take(&self.abandoned),
            prompt_tokens: take(&self.prompt_tokens),
            completion_tokens: take(&self.completion_tokens),
            latency: self.latency.take(),
            first_token: self.first_token.take(),
        }
    }
}

impl Ledger {
    /// The first piece of a stream is on its way to the client.
    pub(super) fn begun(&mut self) {
        if !std::mem::replace(&mut self.ticket.has_begun, true) {
            self.ticket.tally.first_token.record(self.ticket.arrived.elapsed());
        }
    }

    /// The tokens it took.
    pub(super) fn used(&mut self, usage: openai::Usage) {
        self.ticket.usage = Some(usage);
        self.account.iter_mut().for_each(|account| account.used(usage));
    }

    /// It got its whole answer.
    pub(super) fn done(&mut self) {
        self.ticket.ended = Some(Ended::Well);
    }

    /// It did not get what it asked for.
    pub(super) fn failed(&mut self) {
        self.ticket.ended = Some(Ended::Badly);
        self.account.iter_mut().for_each(Account::failed);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let tally = &self.tally;
        tally.requests.fetch_add(1, Ordering::Relaxed);
        match self.ended {
            Some(Ended::Well) => tally.latency.record(self.arrived.elapsed()),
            Some(Ended::Badly) => drop(tally.errors.fetch_add(1, Ordering::Relaxed)),
            None => drop(tally.abandoned.fetch_add(1, Ordering::Relaxed)),
        }
        if let Some(usage) = self.usage {
            tally.prompt_tokens.fetch_add(usage.prompt_tokens, Ordering::Relaxed);
            tally.completion_tokens.fetch_add(usage.completion_tokens, Ordering::Relaxed);
        }
        // Looked at first: many requests a moment would otherwise pass this one word from core to core.
        if !self.shared.dirty.load(Ordering::Relaxed) && !self.shared.dirty.swap(true, Ordering::AcqRel) {
            self.shared.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use monitoring::Bounds;

    use super::*;

    /// REPT-09
    #[tokio::test]
    async fn every_request_is_counted_once_by_what_became_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("queen.sqlite"), &Bounds::default()).history;
        let tallies = Tallies::start(history.clone());
        let ledger = || tallies.ledger("m", Instant::now(), None);
        let mut answered = ledger();
        answered.begun();
        answered.begun();
        answered.used(openai::Usage::new(10, 4));
        answered.done();
        drop(answered);
        ledger().failed();
        drop(ledger());
        drop(tallies.ledger("other", Instant::now(), None));
        tallies.write();
        tallies.write();
        let rows = history.requests(Timestamp::UNIX_EPOCH, Timestamp::MAX).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.model.as_str()).collect::<Vec<_>>(), ["m", "other"]);
        let counts = &rows[0].counts;
        assert_eq!((counts.requests, counts.errors, counts.abandoned), (3, 1, 1));
        assert_eq!((counts.prompt_tokens, counts.completion_tokens), (10, 4));
        assert_eq!((counts.latency.total(), counts.first_token.total()), (1, 1));
        history.close().await.unwrap();
    }

    /// REPT-09
    #[tokio::test(start_paused = true)]
    async fn counts_are_written_a_little_later_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("queen.sqlite"), &Bounds::default()).history;
        let tallies = Tallies::start(history.clone());
        drop(tallies.ledger("m", Instant::now(), None));
        tokio::time::sleep(WRITE_DELAY + Duration::from_millis(1)).await;
        let rows = history.requests(Timestamp::UNIX_EPOCH, Timestamp::MAX).await.unwrap();
        assert_eq!(rows[0].counts.requests, 1);
        history.close().await.unwrap();
    }
}
