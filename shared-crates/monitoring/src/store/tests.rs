//! Locked, full, corrupt, newer, not to be written: what the history makes of it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};

use jiff::Timestamp;
use rbee_api::Figures;

use super::*;
use crate::sample::Sample;

fn open(path: &Path) -> History {
    History::open(path, &Bounds::default()).history
}

fn add(history: &History, second: i64) {
    history.add_samples(Timestamp::from_second(1_700_000_000 + second).unwrap(), vec![Sample::none("w/0")]);
}

async fn count(history: &History) -> usize {
    history.fold_samples(Timestamp::MIN, Timestamp::MAX, 0, |n, _, _| *n += 1).await.unwrap()
}

/// The files set aside, without their side files.
fn aside(dir: &Path, why: &str) -> Vec<std::path::PathBuf> {
    let named = |path: &std::path::PathBuf| {
        let name = path.to_string_lossy();
        name.contains(why) && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(named).collect()
}

/// MONI-01
#[tokio::test]
async fn what_was_written_is_there_again_and_only_one_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("monitor/h.sqlite");
    let history = open(&path);
    add(&history, 0);
    history.close().await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("monitor")).unwrap().count(), 1);
    add(&history, 1);
    assert!(matches!(history.flush().await, Err(HistoryError::Closed { .. })));
    assert_eq!((history.lost(), count(&open(&path)).await), (1, 1));
}

/// MONI-06
#[tokio::test]
async fn a_locked_file_is_waited_for_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sqlite");
    let history = open(&path);
    add(&history, 0);
    history.flush().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    add(&history, 1);
    add(&history, 2);
    let error = history.flush().await.unwrap_err();
    assert!(matches!(&error, HistoryError::NotWritten { trouble } if trouble.contains("locked")), "{error}");
    let trouble = history.trouble().unwrap();
    assert!(trouble.contains("locked") && trouble.contains("h.sqlite"), "{trouble}");
    // Readers are not held up by it.
    assert_eq!((count(&history).await, history.waiting()), (1, 2));
    other.execute_batch("ROLLBACK").unwrap();
    add(&history, 3);
    history.flush().await.unwrap();
    assert_eq!((count(&history).await, history.waiting(), history.lost(), history.trouble()), (4, 0, 0, None));
}

/// MONI-06
#[tokio::test]
async fn of_more_than_may_wait_the_oldest_goes_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sqlite");
    let history = History::open(&path, &Bounds { writes_waiting_max: 4, ..Bounds::default() }).history;
    history.flush().await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for second in 0..7 {
        add(&history, second);
        history.flush().await.unwrap_err();
    }
    assert_eq!((history.waiting(), history.lost()), (4, 3));
    other.execute_batch("ROLLBACK").unwrap();
    history.flush().await.unwrap();
    let oldest = |oldest: &mut Timestamp, at: Timestamp, _: &Sample| *oldest = at.min(*oldest);
    let oldest = history.fold_samples(Timestamp::MIN, Timestamp::MAX, Timestamp::MAX, oldest).await.unwrap();
    assert_eq!((count(&history).await, oldest.as_second() - 1_700_000_000), (4, 3));
}

/// MONI-06
#[tokio::test]
async fn a_caller_waits_for_nothing_while_the_writer_is_held_up() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("h.sqlite"));
    let (free, held) = mpsc::channel::<()>();
    let (began, begun) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    history.write(move |_| {
        let _ = began.send(());
        let _ = held.lock().unwrap().recv();
        Ok(())
    });
    begun.recv().unwrap();
    // Would not come back if one of them waited for the writer.
    for second in 0..10_000 {
        add(&history, second);
    }
    assert!(history.lost() >= 10_000 - 4096);
    drop(free);
    history.flush().await.unwrap();
}

/// MONI-07
#[tokio::test]
async fn a_corrupt_file_is_set_aside_under_a_name_and_the_work_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sqlite");
    fs::write(&path, "this was a database once\n".repeat(1000)).unwrap();
    let opened = History::open(&path, &Bounds::default());
    let kept = opened.set_aside.unwrap();
    assert_eq!(aside(dir.path(), "corrupt"), std::slice::from_ref(&kept));
    assert!(fs::read_to_string(&kept).unwrap().starts_with("this was"));
    add(&opened.history, 0);
    assert_eq!((count(&opened.history).await, opened.history.set_aside()), (1, Some(kept)));
}

/// MONI-07
#[tokio::test]
async fn a_page_that_is_damaged_later_is_found_and_set_aside_too() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sqlite");
    let history = open(&path);
    for second in 0..2000 {
        add(&history, second);
    }
    history.close().await.unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for page in 1..file.metadata().unwrap().len() / 4096 {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let history = open(&path);
    add(&history, 3000);
    history.flush().await.unwrap();
    assert_eq!((aside(dir.path(), "corrupt").len(), count(&history).await), (1, 1));
    assert!(history.set_aside().is_some());
}

/// MONI-07
#[tokio::test]
async fn tables_that_are_missing_are_damage_and_those_of_a_newer_program_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sqlite");
    open(&path).close().await.unwrap();
    let spoil = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    spoil("DROP TABLE fine");
    let history = open(&path);
    add(&history, 0);
    history.flush().await.unwrap();
    assert_eq!((count(&history).await, aside(dir.path(), "corrupt").len()), (1, 1));
    history.close().await.unwrap();
    spoil("UPDATE module SET version = 99");
    let opened = History::open(&path, &Bounds::default());
    assert_eq!(Some(aside(dir.path(), "newer")), opened.set_aside.map(|path| vec![path]));
    add(&opened.history, 0);
    assert_eq!(count(&opened.history).await, 1);
}

/// MONI-07
#[tokio::test]
async fn a_file_that_cannot_be_made_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("monitor");
    fs::write(&blocked, "a file where a folder belongs").unwrap();
    let history = open(&blocked.join("h.sqlite"));
    let trouble = history.trouble().unwrap();
    assert!(trouble.contains("monitor/h.sqlite"), "{trouble}");
    add(&history, 0);
    history.flush().await.unwrap_err();
    let read = history.fold_samples(Timestamp::MIN, Timestamp::MAX, 0, |n, _, _| *n += 1).await;
    assert!(matches!(read, Err(HistoryError::Read { .. })), "{read:?}");
    fs::remove_file(&blocked).unwrap();
    add(&history, 1);
    history.flush().await.unwrap();
    assert_eq!((count(&history).await, history.trouble()), (2, None));
}

/// MONI-07
#[tokio::test]
async fn a_row_that_makes_no_sense_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir.path().join("h.sqlite"));
    let tried = Arc::new(AtomicU32::new(0));
    let tries = Arc::clone(&tried);
    history.write(move |connection| {
        tries.fetch_add(1, Ordering::Relaxed);
        connection.execute("INSERT INTO fine VALUES ('x', 1, 2, 3)", []).map(drop)
    });
    add(&history, 0);
    history.flush().await.unwrap();
    assert_eq!((count(&history).await, history.lost(), tried.load(Ordering::Relaxed)), (1, 1, 1));
}

/// Set where the test below runs on a disk of its own.
const TINY_DISK: &str = "RBEE_TEST_TINY_DISK";

/// MONI-06: on a file system of its own with a megabyte, where the machine lets us mount one.
#[test]
#[expect(clippy::disallowed_methods, reason = "this test again, with a disk of its own")]
fn a_full_disk_is_waited_for_in_memory() {
    if let Some(disk) = std::env::var_os(TINY_DISK) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(fill_the_disk(Path::new(&disk)));
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "store::tests::a_full_disk_is_waited_for_in_memory";
    let mounted = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=1m none \"$1\" || exit 99; exec \"$0\" --exact \"$2\" --nocapture")
        .args([std::env::current_exe().unwrap().as_os_str(), dir.path().as_os_str(), name.as_ref()])
        .env(TINY_DISK, dir.path())
        .output();
    match mounted {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(said.contains("1 passed"), "{said}");
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        other => eprintln!("SKIPPED: no disk of our own can be mounted here: {other:?}"),
    }
}

async fn fill_the_disk(disk: &Path) {
    let history = open(&disk.join("h.sqlite"));
    let wide = |second: i64| {
        let samples = (0..100).map(|n| Sample {
            figures: Figures { rss_bytes: 1 << 40, ..Figures::default() },
            ..Sample::none(format!("worker/{n}"))
        });
        history.add_samples(Timestamp::from_second(1_700_000_000 + second).unwrap(), samples.collect());
    };
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; 500 << 10]).unwrap();
    let mut second = 0;
    let trouble = loop {
        wide(second);
        second += 1;
        if history.flush().await.is_err() {
            break history.trouble().unwrap();
        }
        assert!(second < 5000, "the disk never gets full");
    };
    assert!(trouble.contains("full") || trouble.contains("disk"), "{trouble}");
    // What is in the file is still told, what came later waits.
    assert!(count(&history).await > 0 && history.waiting() > 0);
    fs::remove_file(&filler).unwrap();
    wide(second);
    history.flush().await.unwrap();
    let kept = count(&history).await;
    assert_eq!(
        (kept, history.lost(), history.trouble(), history.set_aside()),
        ((second as usize + 1) * 100, 0, None, None)
    );
}
