//! The file itself: opened when it can be, bounded in size, set aside when it is corrupt.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode};

use super::Bounds;
use super::schema::{MODULES, Unfit, migrate};
use super::signed;

/// How long another program's lock is waited for; nobody waits but the writer.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);
const PAGE_BYTES: u64 = 4096;
/// Rounds of making place before a full file is given up for now.
const SHRINKS_MAX: u32 = 64;

/// The file, open or to be opened.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    bounds: Bounds,
    connection: Option<Connection>,
    /// A file set aside that nobody was told of yet.
    set_aside: Option<PathBuf>,
}

impl File {
    pub(super) fn new(path: &Path, bounds: Bounds) -> Self {
        Self { path: path.to_owned(), bounds, connection: None, set_aside: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn take_set_aside(&mut self) -> Option<PathBuf> {
        self.set_aside.take()
    }

    /// The open file; opened now if it is not.
    pub(super) fn connection(&mut self) -> rusqlite::Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        Ok(self.connection.insert(connection))
    }

    fn open(&mut self) -> rusqlite::Result<Connection> {
        // Where this fails, opening the file does too, and says so.
        let _ = self.path.parent().map(|dir| fs::DirBuilder::new().recursive(true).mode(0o700).create(dir));
        match open(&self.path, &self.bounds) {
            Ok(connection) => Ok(connection),
            Err(Unfit::Sqlite(error)) if is_corrupt(&error) => {
                self.put_aside("corrupt", &error)?;
                open(&self.path, &self.bounds).map_err(Unfit::into_error)
            }
            Err(Unfit::Sqlite(error)) => Err(error),
            Err(Unfit::TooNew) => {
                self.put_aside("newer", &Unfit::TooNew.into_error())?;
                open(&self.path, &self.bounds).map_err(Unfit::into_error)
            }
        }
    }

    /// Closes it, to be opened at the next use.
    pub(super) fn close(&mut self) -> rusqlite::Result<()> {
        self.connection.take().map_or(Ok(()), |connection| connection.close().map_err(|(_, error)| error))
    }

    /// Puts the corrupt file away, so that the next use makes a new one.
    pub(super) fn give_up(&mut self, error: &Error) -> rusqlite::Result<()> {
        self.put_aside("corrupt", error)
    }

    fn put_aside(&mut self, why: &str, error: &Error) -> rusqlite::Result<()> {
        // What it says at closing is known.
        self.connection = None;
        let aside = put_aside(&self.path, why).map_err(|failed| {
            let words = format!("{error}; and it cannot be set aside: {failed}");
            Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN), Some(words))
        })?;
        tracing::error!(
            error = error as &dyn std::error::Error,
            kept_as = %aside.display(),
            "the history cannot be used: it was set aside, and a new one begins"
        );
        self.set_aside = Some(aside);
        Ok(())
    }

    /// Reads all of the file.
    pub(super) fn check(&mut self) -> rusqlite::Result<()> {
        let verdict: String = self.connection()?.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if verdict == "ok" {
            return Ok(());
        }
        Err(Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(verdict)))
    }

    /// Refuses to go on while the file's side file cannot be emptied, because somebody reads for too long.
    pub(super) fn bound_side_file(&mut self) -> rusqlite::Result<()> {
        let wal = named(&self.path, "-wal");
        if fs::metadata(wal).is_ok_and(|found| found.len() > self.bounds.bytes_max / 8) {
            let busy: c_int = self.connection()?.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy != 0 {
                let words = "another program reads it for too long";
                return Err(Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    Some(words.to_owned()),
                ));
            }
        }
        Ok(())
    }

    /// Deletes oldest rows while more than fifteen sixteenths of the file are in use.
    pub(super) fn shrink(&mut self) -> rusqlite::Result<()> {
        let pages_max = pages_max(&self.bounds);
        let connection = self.connection()?;
        for _ in 0..SHRINKS_MAX {
            if pages_used(connection)? <= pages_max * 15 / 16 {
                break;
            }
            let transaction = connection.transaction()?;
            let mut shrunk = false;
            for module in MODULES {
                shrunk = (module.shrink)(&transaction)?;
                if shrunk {
                    break;
                }
            }
            transaction.commit()?;
            if !shrunk {
                break;
            }
        }
        let pages = number(connection, "page_count")?;
        if pages > pages_max {
            // The bound was lowered since.
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({})", pages - pages_max))?;
            limit_pages(connection, pages_max)?;
        }
        Ok(())
    }

    /// Whether it is our own bound that is reached, and not the disk's.
    pub(super) fn is_at_its_bound(&mut self) -> bool {
        let pages_max = pages_max(&self.bounds);
        self.connection().and_then(|connection| pages_used(connection)).is_ok_and(|used| used > pages_max * 7 / 8)
    }
}

fn open(path: &Path, bounds: &Bounds) -> Result<Connection, Unfit> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // For a new file only, and before its first table: so that a lowered bound gives its place back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut may take the newest rows, never the file; nothing here is worth a disk's turn each time.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let side_bytes = signed(bounds.bytes_max / 16);
    connection.pragma_update(None, "wal_autocheckpoint", (side_bytes / signed(PAGE_BYTES)).max(8))?;
    connection.pragma_update(None, "journal_size_limit", side_bytes)?;
    connection.pragma_update(None, "cache_size", -256)?;
    limit_pages(&connection, pages_max(bounds))?;
    migrate(&mut connection, MODULES)?;
    Ok(connection)
}

fn limit_pages(connection: &Connection, pages_max: u64) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA max_page_count = {pages_max}"), [], |_| Ok(()))
}

/// Six eighths of the bound are the file's; the rest is for its side files.
fn pages_max(bounds: &Bounds) -> u64 {
    (bounds.bytes_max / 8 * 6 / PAGE_BYTES).max(64)
}

fn pages_used(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(number(connection, "page_count")?.saturating_sub(number(connection, "freelist_count")?))
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<u64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0)).map(i64::unsigned_abs)
}

/// Whether the file itself is at fault: damaged, no database, or without tables that it should have.
pub(super) fn is_corrupt(error: &Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => true,
        Some(ErrorCode::Unknown) => error.to_string().contains("no such table"),
        _ => false,
    }
}

/// Whether it may go better later: locked, full, not to be opened, in trouble with its disk.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
        )
    )
}

/// The trouble for people.
pub(super) fn words(path: &Path, error: &Error) -> String {
    format!("history {}: {error}", path.display())
}

impl Unfit {
    fn into_error(self) -> Error {
        match self {
            Self::Sqlite(error) => error,
            Self::TooNew => Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_SCHEMA),
                Some("it was written by a newer program".to_owned()),
            ),
        }
    }
}

fn named(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a database that cannot be used, and what stands beside it, under a name that says `why` and when.
///
/// # Errors
/// When a file of it cannot be renamed.
pub fn put_aside(path: &Path, why: &str) -> io::Result<PathBuf> {
    let suffix = format!(".{why}-{}", jiff::Timestamp::now().as_microsecond());
    let aside = named(path, &suffix);
    fs::rename(path, &aside)?;
    // The side files belong to the file put away; with a new one they would be poison.
    for side in ["-wal", "-shm"] {
        match fs::rename(named(path, side), named(&aside, side)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}
