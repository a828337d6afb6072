//! The log thread with daemons that are files of the test.

use std::io::Write as _;
use std::time::Duration;

use super::*;

const BOUNDS: LogBounds = LogBounds { line_bytes_max: 1024, tail_lines: 3, fifo_bytes: 256 * 1024 };

struct Scene {
    dir: tempfile::TempDir,
    thread: LogThread,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let thread = begin(dir.path(), BOUNDS);
        Self { dir, thread }
    }

    fn unit(&self, name: &str, policy: LogPolicy) -> Logs {
        self.thread.unit(self.config(name, policy)).unwrap()
    }

    fn config(&self, name: &str, policy: LogPolicy) -> LogConfig {
        let path = |extension: &str| self.dir.path().join(format!("{name}.{extension}"));
        LogConfig { out: path("out"), err: path("err"), file: path("log"), policy, writer: None }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

fn begin(dir: &Path, bounds: LogBounds) -> LogThread {
    LogThread::open(dir.join("logs.journal"), dir, bounds).unwrap()
}

/// What a daemon opens, standard output first.
fn daemon(logs: &Logs) -> [File; 2] {
    let open = |path| File::options().read(true).write(true).open(path).unwrap();
    [open(&logs.0.config.out), open(&logs.0.config.err)]
}

fn texts(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| lines::text_of(line)).collect()
}

/// Eight lines of these tests have room.
const SMALL: LogPolicy = LogPolicy { file_bytes_max: 8 * 34, files_kept: 1000, age_max: Duration::from_secs(3600) };

#[tokio::test]
async fn lines_reach_file_tail_and_followers() {
    let scene = Scene::new();
    let logs = scene.unit("a", LogPolicy::default());
    let [mut out, mut err] = daemon(&logs);
    let mut follower = logs.follow(10).await.unwrap();
    logs.begin_run().unwrap();
    out.write_all(b"one\ntwo\nunfini").unwrap();
    assert!(follower.next().await.unwrap().ends_with("Z out one"));
    assert!(follower.next().await.unwrap().ends_with("Z out two"));
    assert_eq!(texts(&logs.last(10).await.unwrap()), ["one", "two"], "an unfinished line waits");
    out.write_all(b"shed\nfour\nlast").unwrap();
    assert_eq!(logs.end_run().await, ["unfinished", "four", "last"], "the end of a run finishes its lines");
    assert_eq!(texts(&logs.last(2).await.unwrap()), ["four", "last"]);
    logs.begin_run().unwrap();
    err.write_all(b"oh\n").unwrap();
    assert_eq!(logs.end_run().await, ["oh"], "of this run alone");
    assert!(scene.text("a.log").ends_with("Z err oh\n"));
    logs.begin_run().unwrap();
    assert_eq!(logs.end_run().await, [""; 0]);
    for _ in 0..4 {
        follower.next().await.unwrap();
    }
    logs.close().await;
    assert_eq!(follower.next().await, None);
}

/// LOGS-08
#[tokio::test]
async fn last_lines_the_tail_and_followers_go_over_rotations_without_a_gap() {
    let scene = Scene::new();
    let logs = scene.unit("a", SMALL);
    let [mut out, _err] = daemon(&logs);
    logs.begin_run().unwrap();
    let mut follower = logs.follow(0).await.unwrap();
    for number in 0..1000 {
        writeln!(out, "{number:04}").unwrap();
    }
    for number in 0..1000 {
        assert_eq!(lines::text_of(&follower.next().await.unwrap()), format!("{number:04}"));
    }
    let last = logs.last(20).await.unwrap();
    assert_eq!(texts(&last), (980..1000).map(|number| format!("{number:04}")).collect::<Vec<_>>());
    writeln!(out, "1000").unwrap();
    assert_eq!(logs.end_run().await, ["0998", "0999", "1000"]);
    let files = std::fs::read_dir(scene.dir.path()).unwrap();
    let files = files.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("a.log"));
    assert_eq!(files.count(), 126, "each is filled to its end");
    assert_eq!(std::fs::metadata(scene.dir.path().join("a.log.1")).unwrap().len(), SMALL.file_bytes_max);
}

/// LOGS-08
#[tokio::test]
async fn a_follower_is_told_of_files_that_went_before_it_read_them() {
    let scene = Scene::new();
    let logs = scene.unit("a", LogPolicy { files_kept: 2, ..SMALL });
    let [mut out, _err] = daemon(&logs);
    let mut follower = logs.follow(0).await.unwrap();
    for number in 0..80 {
        writeln!(out, "{number:04}").unwrap();
    }
    logs.end_run().await;
    for number in 0..8 {
        assert_eq!(lines::text_of(&follower.next().await.unwrap()), format!("{number:04}"), "what it holds, it has");
    }
    let told = follower.next().await.unwrap();
    assert_eq!(told, "… 6 log files missed: they were removed before they were read …");
    assert_eq!(lines::text_of(&follower.next().await.unwrap()), "0056");
}

/// LOGS-02
#[tokio::test]
async fn a_full_fifo_without_a_line_end_does_not_block_its_writer_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let bounds = LogBounds { line_bytes_max: 20_000_000, ..BOUNDS };
    let scene = Scene { thread: begin(dir.path(), bounds), dir };
    let logs = scene.unit("a", LogPolicy::default());
    let [mut out, _err] = daemon(&logs);
    let writer = tokio::task::spawn_blocking(move || out.write_all(&b"y".repeat(10_000_000)).unwrap());
    writer.await.unwrap();
    logs.close().await;
    assert_eq!(scene.text("a.log").matches('y').count(), 10_000_000);
}

/// LOGS-02
#[tokio::test]
async fn a_write_too_large_for_the_fifo_behind_an_unfinished_line_is_seen() {
    let scene = Scene::new();
    let logs = scene.unit("a", LogPolicy::default());
    let [mut out, _err] = daemon(&logs);
    let mut follower = logs.follow(0).await.unwrap();
    out.write_all(b"first\nunfinished ").unwrap();
    assert!(follower.next().await.unwrap().ends_with(" first"));
    let writer = tokio::task::spawn_blocking(move || out.write_all(&b"line\n".repeat(100_000)).unwrap());
    assert!(follower.next().await.unwrap().ends_with(" unfinished line"));
    for _ in 1..100_000 {
        assert!(follower.next().await.unwrap().ends_with(" line"));
    }
    writer.await.unwrap();
}

/// LOGS-09
#[tokio::test]
async fn a_full_disk_keeps_the_output_in_the_fifo_and_nobody_waits_for_it() {
    let scene = Scene::new();
    let log = scene.dir.path().join("a.log");
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    let stuck = scene.unit("a", LogPolicy::default());
    let [mut out, _err] = daemon(&stuck);
    out.write_all(b"kept\n").unwrap();
    assert_eq!(stuck.end_run().await, [""; 0]);

    let other = scene.unit("b", LogPolicy::default());
    let [mut of_other, _err] = daemon(&other);
    of_other.write_all(b"fine\n").unwrap();
    assert_eq!(other.end_run().await, ["fine"], "the others do not suffer");

    let mut follower = stuck.follow(0).await.unwrap();
    std::fs::remove_file(&log).unwrap();
    stuck.close().await;
    let again = scene.unit("a", LogPolicy::default());
    assert_eq!(again.end_run().await, ["kept"]);
    assert_eq!(follower.next().await, None);
}

/// LOGS-10
#[tokio::test]
async fn the_next_thread_goes_on_where_the_last_one_stopped() {
    let Scene { dir, thread } = Scene::new();
    let scene = Scene { dir, thread };
    let logs = scene.unit("a", SMALL);
    let [mut out, _err] = daemon(&logs);
    out.write_all(b"one\ntwo\nthr").unwrap();
    let mut follower = logs.follow(2).await.unwrap();
    while !follower.next().await.unwrap().ends_with("two") {}
    let Scene { dir, thread } = scene;
    thread.close().await;
    drop((thread, logs));
    while follower.next().await.is_some() {}
    out.write_all(b"ee\n").unwrap();
    let scene = Scene { thread: begin(dir.path(), BOUNDS), dir };
    let logs = scene.unit("a", SMALL);
    assert_eq!(logs.end_run().await, ["three"]);
    assert_eq!(scene.text("a.log").lines().count(), 3);
}

/// LOGS-11
#[tokio::test]
async fn fifos_that_somebody_removed_are_found_through_their_writer_and_made_again_for_the_next() {
    let scene = Scene::new();
    let logs = scene.unit("a", LogPolicy::default());
    let [mut out, err] = daemon(&logs);
    std::fs::remove_file(scene.dir.path().join("a.out")).unwrap();
    out.write_all(b"unnamed\n").unwrap();
    assert_eq!(logs.end_run().await, ["unnamed"]);
    out.write_all(b"for the next thread\n").unwrap();
    let Scene { dir, thread } = scene;
    drop((thread, logs));

    let scene = Scene { thread: begin(dir.path(), BOUNDS), dir };
    let mut config = scene.config("a", LogPolicy::default());
    // This process holds them among its own files.
    let held = |file: &File| format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file)).into();
    let _ = std::fs::remove_file(scene.dir.path().join("a.out"));
    assert_eq!(open_fifo(&config.out, Some(held(&out))).unwrap().filled().unwrap(), 20);
    std::fs::remove_file(&config.out).unwrap();
    config.writer = None;
    let logs = scene.thread.unit(config).unwrap();
    std::fs::remove_file(scene.dir.path().join("a.out")).unwrap();
    logs.begin_run().unwrap();
    let [mut next, _err] = daemon(&logs);
    next.write_all(b"named\n").unwrap();
    assert_eq!(logs.end_run().await, ["named"]);
    drop(err);
}

#[tokio::test]
async fn something_else_in_the_way_is_an_error_of_that_unit() {
    let scene = Scene::new();
    std::fs::write(scene.dir.path().join("a.err"), "").unwrap();
    assert!(scene.thread.unit(scene.config("a", SMALL)).unwrap_err().to_string().contains("something else"));
    std::fs::create_dir(scene.dir.path().join("b.log")).unwrap();
    assert!(scene.thread.unit(scene.config("b", SMALL)).is_err());
    scene.thread.close().await;
    assert!(scene.thread.unit(scene.config("c", SMALL)).is_err(), "nobody would read it");
}

/// LOGS-06
#[tokio::test]
async fn an_idle_log_gets_old_without_anybody_writing() {
    let scene = Scene::new();
    let logs = scene.unit("a", LogPolicy { age_max: Duration::from_millis(300), ..SMALL });
    let [mut out, _err] = daemon(&logs);
    let mut follower = logs.follow(0).await.unwrap();
    out.write_all(b"one\n").unwrap();
    follower.next().await.unwrap();
    // Nobody says a word more.
    let log = scene.dir.path().join("a.log");
    tokio::select! {
        line = follower.next() => panic!("{line:?}"),
        () = async { while std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) { tokio::task::yield_now().await } } => {}
    }
    out.write_all(b"two\n").unwrap();
    assert!(follower.next().await.unwrap().ends_with(" two"), "its next file is followed");
    assert!(!scene.dir.path().join("a.log.1").exists(), "and the old one's last line was too old as well");
}
