//! The thread that alone touches the file: writes what waits in one transaction, then answers.

use std::collections::VecDeque;

use rusqlite::{Error, ErrorCode};

use super::file::{File, is_corrupt, is_passing, words};
use super::queue::{Ask, Queue, Work, Write};

/// Writes in one transaction, so that the side file stays small.
const WRITES_A_COMMIT_MAX: usize = 256;

/// Ends when the last handle is gone or closed it.
pub(super) fn serve(mut file: File, queue: &Queue) {
    if let Err(error) = file.check() {
        fail(&mut file, queue, &error);
    } else if let Err(error) = file.shrink() {
        fail(&mut file, queue, &error);
    }
    loop {
        let Work { writes, asks, closing } = queue.take();
        let mut outcome = write_all(&mut file, queue, writes);
        for ask in asks {
            answer(&mut file, queue, ask, &outcome);
        }
        if let Some(waiting) = closing {
            if let Err(error) = file.close()
                && outcome.is_ok()
            {
                outcome = Err(words(file.path(), &error));
            }
            queue.end();
            for done in waiting {
                // Who no longer waits need not know.
                let _ = done.send(outcome.clone());
            }
            return;
        }
    }
}

/// What is wrong, when not all is written; the rest is back in the queue.
fn write_all(file: &mut File, queue: &Queue, mut writes: VecDeque<Write>) -> Result<(), String> {
    while !writes.is_empty() {
        let some: Vec<Write> = writes.drain(..writes.len().min(WRITES_A_COMMIT_MAX)).collect();
        if let Err(error) = write(file, queue, &some) {
            for write in some.into_iter().rev() {
                writes.push_front(write);
            }
            queue.give_back(writes);
            return Err(fail(file, queue, &error));
        }
        if queue.trouble().is_some() {
            tracing::info!(file = %file.path().display(), "the history is written again");
            queue.set_trouble(None);
        }
    }
    // Those given back before and not due yet.
    queue.trouble().map_or(Ok(()), Err)
}

fn write(file: &mut File, queue: &Queue, writes: &[Write]) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match try_to_write(file, queue, writes) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A second one of either is for the next time.
        if tries > 1 {
            return Err(error);
        } else if is_corrupt(&error) {
            file.give_up(&error)?;
        } else if error.sqlite_error_code() == Some(ErrorCode::DiskFull) && file.is_at_its_bound() {
            file.shrink()?;
        } else {
            return Err(error);
        }
        queue.set_aside(file.take_set_aside());
    }
}

fn try_to_write(file: &mut File, queue: &Queue, writes: &[Write]) -> rusqlite::Result<()> {
    file.bound_side_file()?;
    let mut transaction = file.connection()?.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let mut not_understood = 0;
    for write in writes {
        let savepoint = transaction.savepoint()?;
        match write.apply(&savepoint) {
            Ok(()) => savepoint.commit()?,
            Err(error) if is_corrupt(&error) || is_passing(&error) => return Err(error),
            Err(error) => {
                not_understood += 1;
                tracing::error!(error = &error as &dyn std::error::Error, "a row of the history makes no sense to it");
            }
        }
    }
    transaction.commit()?;
    queue.lose(not_understood);
    file.shrink()
}

fn answer(file: &mut File, queue: &Queue, ask: Ask, written: &Result<(), String>) {
    match ask {
        Ask::Read(read) => {
            let is_corrupt = match file.connection() {
                Ok(connection) => read(Ok(connection)),
                Err(error) => read(Err(error)),
            };
            if is_corrupt {
                let error = Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None);
                fail(file, queue, &error);
            }
            queue.set_aside(file.take_set_aside());
        }
        Ask::Flush(done) => {
            // Who no longer waits need not know.
            let _ = done.send(written.clone());
        }
    }
}

/// Says what is wrong, and has the file opened anew.
fn fail(file: &mut File, queue: &Queue, error: &Error) -> String {
    let given_up = if is_corrupt(error) { file.give_up(error) } else { Ok(()) };
    queue.set_aside(file.take_set_aside());
    if is_corrupt(error) && given_up.is_ok() {
        return words(file.path(), error);
    }
    let trouble = words(file.path(), given_up.as_ref().err().unwrap_or(error));
    if queue.trouble().as_ref() != Some(&trouble) {
        tracing::warn!(trouble, "the history cannot be written now; it waits in memory");
    }
    queue.set_trouble(Some(trouble.clone()));
    // What is open can still be read while it is locked or full.
    let stays = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked, ErrorCode::DiskFull];
    if !error.sqlite_error_code().is_some_and(|code| stays.contains(&code)) {
        // Opened anew at the next use: the disk, or the file, may be another by then.
        let _ = file.close();
    }
    trouble
}
