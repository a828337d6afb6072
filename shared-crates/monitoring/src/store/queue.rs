//! What waits for the writer: writes, of which the oldest goes when there are too many, and questions.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

/// Questions that may wait.
const ASKS_MAX: usize = 256;

/// What is done to the file.
type Deed = dyn Fn(&Connection) -> rusqlite::Result<()> + Send;

/// Something to write; tried again when it failed.
pub(super) struct Write(Box<Deed>);

impl Write {
    pub(super) fn new(write: impl Fn(&Connection) -> rusqlite::Result<()> + Send + 'static) -> Self {
        Self(Box::new(write))
    }

    pub(super) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        (self.0)(connection)
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Write")
    }
}

/// Gets the file, or why there is none; says whether the file is corrupt.
type Reading = Box<dyn FnOnce(rusqlite::Result<&Connection>) -> bool + Send>;
pub(super) type Done = oneshot::Sender<Result<(), String>>;

/// A question.
pub(super) enum Ask {
    Read(Reading),
    Flush(Done),
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "Read",
            Self::Flush(_) => "Flush",
        })
    }
}

/// Why a question is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    Busy,
    Closed,
}

/// What the writer has to do next.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub writes: VecDeque<Write>,
    pub asks: VecDeque<Ask>,
    /// No more will come; who wants to know when the file is closed.
    pub closing: Option<Vec<Done>>,
}

#[derive(Debug, Default)]
struct State {
    writes: VecDeque<Write>,
    asks: VecDeque<Ask>,
    /// The writes at hand failed; another try is due with the next one.
    stuck: bool,
    closing: Option<Vec<Done>>,
    ended: bool,
    lost: u64,
    trouble: Option<String>,
    set_aside: Option<PathBuf>,
}

/// Shared by the handles and the writer. Locked for moments only.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    news: Condvar,
    writes_max: usize,
}

impl Queue {
    pub(super) fn new(writes_max: usize) -> Self {
        Self { state: Mutex::default(), news: Condvar::new(), writes_max: writes_max.max(1) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, write: Write) {
        let mut state = self.state();
        if state.closing.is_some() {
            state.lost += 1;
            return;
        }
        if state.writes.len() >= self.writes_max {
            state.writes.pop_front();
            state.lost += 1;
        }
        state.writes.push_back(write);
        state.stuck = false;
        self.news.notify_one();
    }

    pub(super) fn ask(&self, ask: Ask) -> Result<(), Refused> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Err(Refused::Closed);
        }
        if state.asks.len() >= ASKS_MAX {
            return Err(Refused::Busy);
        }
        if matches!(ask, Ask::Flush(_)) {
            state.stuck = false;
        }
        state.asks.push_back(ask);
        self.news.notify_one();
        Ok(())
    }

    /// No more is taken. A queue that has ended answers at once, by dropping `done`.
    pub(super) fn close(&self, done: Option<Done>) {
        let mut state = self.state();
        if !state.ended {
            state.closing.get_or_insert_default().extend(done);
            state.stuck = false;
            self.news.notify_one();
        }
    }

    /// The writer is gone: nobody need wait for anything.
    pub(super) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.closing = Some(Vec::new());
        state.lost += state.writes.len() as u64;
        state.writes.clear();
        state.asks.clear();
    }

    /// Waits for something to do, and takes it.
    pub(super) fn take(&self) -> Work {
        let idle = |state: &mut State| {
            (state.writes.is_empty() || state.stuck) && state.asks.is_empty() && state.closing.is_none()
        };
        let mut state = self.news.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        let writes = if state.stuck { VecDeque::new() } else { std::mem::take(&mut state.writes) };
        Work { writes, asks: std::mem::take(&mut state.asks), closing: state.closing.as_mut().map(std::mem::take) }
    }

    /// Gives writes back that could not be carried out, before those that came meanwhile.
    pub(super) fn give_back(&self, mut writes: VecDeque<Write>) {
        let mut state = self.state();
        if writes.is_empty() {
            return;
        }
        // Those that came meanwhile are not lost with the try that did not know them; theirs comes with the next one.
        writes.append(&mut state.writes);
        let above = writes.len().saturating_sub(self.writes_max);
        writes.drain(..above);
        state.lost += above as u64;
        state.writes = writes;
        state.stuck = true;
    }

    pub(super) fn lose(&self, writes: u64) {
        self.state().lost += writes;
    }

    pub(super) fn lost(&self) -> u64 {
        self.state().lost
    }

    pub(super) fn waiting(&self) -> usize {
        self.state().writes.len()
    }

    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.state().trouble = trouble;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    /// Remembers a file that was set aside.
    pub(super) fn set_aside(&self, path: Option<PathBuf>) {
        if path.is_some() {
            self.state().set_aside = path;
        }
    }

    pub(super) fn newest_set_aside(&self) -> Option<PathBuf> {
        self.state().set_aside.clone()
    }
}
