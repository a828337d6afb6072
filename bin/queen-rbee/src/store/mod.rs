//! What must survive queen: fleet id, counter, orders by hand, placement, hives. SQLite, one writer thread.
//!
//! ```text
//!   open ─▶ sound? ──yes──▶ migrate ─▶ load ─▶ writer thread ◀── save, mark_stopped
//!             │ no (corrupt, no database, rows that make no sense)
//!             └─▶ set aside as queen.sqlite.corrupt-TIME ─▶ new file, new fleet id
//! ```
//!
//! A file that is only in the way (not readable, not writable, of a newer queen) is an error and stays as it is.

mod rows;
mod schema;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rbee_api::usage::UsageRow;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

pub use rows::ReadError;

use crate::desired::DesiredState;

/// Writes that may wait for the disk.
const WRITES_WAITING_MAX: usize = 16;

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer queen-rbee has written it.
    #[error("the store {} has version {found}, this program knows {} at most", path.display(), schema::VERSION)]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A corrupt file cannot be put away.
    #[error("the store {} is corrupt and cannot be set aside", path.display())]
    SetAside {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A write failed; nothing of it was kept.
    #[error("cannot write to the store")]
    Write {
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A read failed.
    #[error("cannot read the store")]
    Read {
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer thread could not be started or has ended.
    #[error("the store's writer is gone")]
    Closed,
}

/// What was found at opening.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub store: Store,
    /// What the queen before wanted; a new fleet in a new store.
    pub state: DesiredState,
    /// Where a corrupt file was put.
    pub set_aside: Option<PathBuf>,
    /// How often in a row queen was started again without having been stopped.
    pub restarts: u32,
}

/// A handle to the writer thread; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Another one once the file was somebody else's meanwhile.
    writer: Arc<Mutex<mpsc::Sender<Write>>>,
}

type Done = oneshot::Sender<Result<(), rusqlite::Error>>;

enum Write {
    State(Arc<DesiredState>, Done),
    Stopped(Done),
    Usage(Vec<UsageRow>, Done),
    ReadUsage(String, oneshot::Sender<Result<Vec<UsageRow>, rusqlite::Error>>),
    Close(Done),
}

impl Store {
    /// Opens or makes the file and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be used and is not merely corrupt.
    pub fn open(path: &Path) -> Result<Opened, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let (connection, state, set_aside) = match read(path) {
            Ok((connection, state)) => (connection, state, None),
            Err(Unusable::Refused(error)) => return Err(error),
            Err(Unusable::Corrupt(error)) => {
                let aside = monitoring::put_aside(path, "corrupt")
                    .map_err(|source| StoreError::SetAside { path: path.to_owned(), source })?;
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    kept_as = %aside.display(),
                    "the store is corrupt: it was set aside, and a new fleet begins; orders given by hand are lost"
                );
                let (connection, state) = read(path).map_err(|unusable| match unusable {
                    Unusable::Refused(error) => error,
                    Unusable::Corrupt(ReadError::Sqlite { source }) => failed(source),
                    Unusable::Corrupt(ReadError::Value { .. }) => failed(rusqlite::Error::InvalidQuery),
                })?;
                (connection, state, Some(aside))
            }
        };
        let restarts = begin(&connection, &state).map_err(failed)?;
        let (writer, writes) = mpsc::channel(WRITES_WAITING_MAX);
        thread::Builder::new()
            .name("store".into())
            .spawn(move || serve(connection, writes))
            .map_err(|_| StoreError::Closed)?;
        Ok(Opened { store: Self { writer: Arc::new(Mutex::new(writer)) }, state, set_aside, restarts })
    }

    /// Whether this program could use the file, which another may have open. Nothing is changed.
    ///
    /// # Errors
    /// When it cannot be read, or is of a newer program. A corrupt one is for [`Store::open`] to see to.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let opened = Connection::open_with_flags(path, flags);
        match opened.and_then(|connection| schema::version(&connection)) {
            Ok(found) if found > schema::VERSION => Err(StoreError::TooNew { path: path.to_owned(), found }),
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) =>
            {
                Ok(())
            }
            Err(source) => Err(StoreError::Open { path: path.to_owned(), source }),
        }
    }

    /// Writes the state; it is on disk when this returns.
    ///
    /// # Errors
    /// When it is not.
    pub async fn save(&self, state: Arc<DesiredState>) -> Result<(), StoreError> {
        self.write(|done| Write::State(state, done)).await
    }

    /// This handle and its clones, closed before, write through `other`'s writer from now on.
    pub fn go_on_as(&self, other: &Self) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = other.writer();
    }

    fn writer(&self) -> mpsc::Sender<Write> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that queen ends by intention: the next start counts as the first.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn mark_stopped(&self) -> Result<(), StoreError> {
        self.write(Write::Stopped).await
    }

    /// Adds to what keys have used.
    ///
    /// # Errors
    /// When it is not written.
    pub async fn add_usage(&self, rows: Vec<UsageRow>) -> Result<(), StoreError> {
        self.write(|done| Write::Usage(rows, done)).await
    }

    /// As [`Store::add_usage`], to a file that another queen has open.
    ///
    /// # Errors
    /// When it is not written.
    pub fn add_usage_to(path: &Path, rows: &[UsageRow]) -> Result<(), StoreError> {
        let written = Connection::open(path).and_then(|mut connection| {
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            usage::add(&mut connection, rows)
        });
        written.map_err(|source| StoreError::Write { source })
    }

    /// What keys have used since a day.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn usage(&self, since: String) -> Result<Vec<UsageRow>, StoreError> {
        let (done, read) = oneshot::channel();
        self.writer().send(Write::ReadUsage(since, done)).await.map_err(|_| StoreError::Closed)?;
        read.await.map_err(|_| StoreError::Closed)?.map_err(|source| StoreError::Read { source })
    }

    /// Closes the file and returns when that is done: nothing of it is left open, its side files are gone.
    ///
    /// # Errors
    /// When the file cannot be closed in order; what was saved is saved all the same.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.write(Write::Close).await
    }

    async fn write(&self, write: impl FnOnce(Done) -> Write) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        self.writer().send(write(done)).await.map_err(|_| StoreError::Closed)?;
        written.await.map_err(|_| StoreError::Closed)?.map_err(|source| StoreError::Write { source })
    }
}

/// Why a file cannot be used as it is.
enum Unusable {
    Corrupt(ReadError),
    Refused(StoreError),
}

fn read(path: &Path) -> Result<(Connection, DesiredState), Unusable> {
    let judge = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Unusable::Corrupt(ReadError::Sqlite { source }),
        _ => Unusable::Refused(StoreError::Open { path: path.to_owned(), source }),
    };
    let mut connection = Connection::open(path).map_err(judge)?;
    prepare(&connection).map_err(judge)?;
    let found = schema::version(&connection).map_err(judge)?;
    if found > schema::VERSION {
        return Err(Unusable::Refused(StoreError::TooNew { path: path.to_owned(), found }));
    }
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(judge)?;
    if verdict != "ok" {
        return Err(Unusable::Corrupt(ReadError::Value { what: verdict }));
    }
    schema::migrate(&mut connection, found).map_err(judge)?;
    // Whatever does not read back now was not written by us: a table missing or changed is damage too.
    let state = rows::load(&connection).map_err(Unusable::Corrupt)?;
    Ok((connection, state.unwrap_or_else(|| DesiredState::new(uuid::Uuid::new_v4().to_string()))))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A generation must not come twice, not even after a power cut; writes are rare enough for it.
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Counts the start and writes the state, so that a file nobody may write is found now.
fn begin(connection: &Connection, state: &DesiredState) -> rusqlite::Result<u32> {
    let transaction = connection.unchecked_transaction()?;
    let before = rows::meta(&transaction, "starts_in_a_row")?.and_then(|text| text.parse::<u32>().ok());
    let starts = before.unwrap_or(0).saturating_add(1);
    rows::set_meta(&transaction, "starts_in_a_row", &starts.to_string())?;
    rows::save(&transaction, state)?;
    transaction.commit()?;
    Ok(starts - 1)
}

fn serve(mut connection: Connection, mut writes: mpsc::Receiver<Write>) {
    while let Some(write) = writes.blocking_recv() {
        // A caller that no longer waits is no reason to leave the write out.
        let _ = match write {
            Write::State(state, done) => done.send(write_state(&mut connection, &state)),
            Write::Usage(rows, done) => done.send(usage::add(&mut connection, &rows)),
            Write::ReadUsage(since, done) => {
                let _ = done.send(usage::since(&connection, &since));
                continue;
            }
            Write::Stopped(done) => done.send(rows::set_meta(&connection, "starts_in_a_row", "0")),
            Write::Close(done) => {
                let _ = done.send(connection.close().map_err(|(_, error)| error));
                return;
            }
        };
    }
}

fn write_state(connection: &mut Connection, state: &DesiredState) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    rows::save(&transaction, state)?;
    transaction.commit()
}

#[cfg(test)]
mod tests;
