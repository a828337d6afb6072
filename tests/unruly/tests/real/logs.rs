//! Logs of real processes, over rotations and over supervisors that are killed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use daemon_lifecycle::{Launch, LogPolicy, Phase, StopMode, Supervisor, SupervisorConfig, SupervisorError, UnitSpec};

use crate::scene::{Scene, runs};
use crate::supervisor::open;

/// Counts on both of its outputs as fast as it can.
const COUNTER: &str = "i=0; while :; do echo $i; echo $i >&2; i=$((i+1)); done";
/// Counts in pieces: each line is written in three parts, some behind an unfinished one of the other output.
const STUTTERER: &str =
    "i=0; while :; do printf 'a'; printf 'b' >&2; printf 'a'; echo $i; echo b$i >&2; i=$((i+1)); done";

fn begin(scene: &Scene, file_bytes_max: u64, script: &str) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the test needs a supervisor it can kill")]
    let child = Command::new(env!("CARGO_BIN_EXE_log_driver"))
        .arg(scene.path(""))
        .arg(file_bytes_max.to_string())
        .args(["/bin/sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn();
    child.unwrap()
}

fn pid_said(driver: &mut Child) -> u32 {
    let mut line = String::new();
    BufReader::new(driver.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().strip_prefix("running ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

/// All lines of the unit's log, oldest first.
fn all_lines(scene: &Scene) -> Vec<String> {
    let mut numbers: Vec<u32> =
        scene.files("logs").iter().filter_map(|name| name.strip_prefix("it.log.")?.parse().ok()).collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let mut text: String = numbers.iter().map(|number| scene.text(&format!("logs/it.log.{number}"))).collect();
    text += &scene.text("logs/it.log");
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    text.lines().map(str::to_owned).collect()
}

/// What was counted on one output; every line of it once and in order.
fn counted(lines: &[String], stream: &str, prefix: &str) -> usize {
    let texts = lines.iter().filter_map(|line| {
        let (stamp, rest) = line.split_once(' ')?;
        assert_eq!((stamp.len(), stamp.ends_with('Z')), (24, true), "{line}");
        rest.strip_prefix(stream)?.strip_prefix(' ')
    });
    let mut next = 0;
    for text in texts {
        assert_eq!(text, format!("{prefix}{next}"), "each line once, whole, in its order");
        next += 1;
    }
    next
}

/// A number below `bound`, different each time.
fn any_below(bound: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) % bound
}

/// Kills so many supervisors in a row, each within so many ms of its start; then all is stopped and the lines looked at.
fn killed_again_and_again(kills: usize, within_ms: u64, script: &str) -> (Vec<String>, usize) {
    let scene = Scene::new();
    const FILE_BYTES_MAX: u64 = 200_000;
    let mut first = begin(&scene, FILE_BYTES_MAX, script);
    let pid = pid_said(&mut first);
    first.kill().unwrap();
    first.wait().unwrap();
    for _ in 0..kills {
        let mut driver = begin(&scene, FILE_BYTES_MAX, script);
        // No condition to wait for: any moment is what is meant.
        thread::park_timeout(Duration::from_micros(any_below(within_ms * 1000)));
        driver.kill().unwrap();
        driver.wait().unwrap();
        assert!(runs(pid), "nobody disturbs the unit");
    }
    let mut last = begin(&scene, FILE_BYTES_MAX, script);
    assert_eq!(pid_said(&mut last), pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(last.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    assert!(last.wait().unwrap().success());
    assert_eq!(scene.files("run"), [""; 0]);
    let files = scene.files("logs");
    for name in &files {
        assert!(fs::metadata(scene.path("logs").join(name)).unwrap().len() <= FILE_BYTES_MAX, "{name}");
    }
    (all_lines(&scene), files.len())
}

/// LOGS-04, LOGS-05
#[test]
fn a_hundred_killed_supervisors_cost_no_line_and_double_none() {
    let (lines, files) = killed_again_and_again(100, 40, COUNTER);
    let (out, err) = (counted(&lines, "out", ""), counted(&lines, "err", ""));
    assert!(files > 3, "it was rotated under way: {files}");
    assert!(out > 1000 && out.abs_diff(err) <= 1, "{out} {err}");
}

/// LOGS-05, LOGS-10
#[test]
fn lines_written_in_pieces_are_whole_over_killed_supervisors() {
    let (lines, _) = killed_again_and_again(40, 40, STUTTERER);
    // The very last of each may have been cut short by the end of its writer.
    let unfinished = |line: &String| line.ends_with(" out a") || line.ends_with(" out aa") || line.ends_with(" err b");
    let lines: Vec<String> = lines.into_iter().filter(|line| !unfinished(line)).collect();
    let (out, err) = (counted(&lines, "out", "aa"), counted(&lines, "err", "bb"));
    assert!(out > 300 && out.abs_diff(err) <= 1, "{out} {err}");
}

fn unit(script: &str, log: LogPolicy) -> UnitSpec {
    let mut spec = UnitSpec::new("it", Launch::new("/bin/sh", ["-c", script]));
    spec.log = log;
    spec.policy.restart.policy = daemon_lifecycle::Policy::Never;
    spec
}

/// LOGS-01, LOGS-02, LOGS-08
#[tokio::test]
async fn a_flood_of_strange_bytes_is_followed_over_its_rotations() {
    const SCRIPT: &str = r"head -c 10000000 /dev/zero | tr '\0' x; printf 'n\000l\n\377\n'; seq 1 20000; echo end";
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let policy = LogPolicy { file_bytes_max: 100_000, files_kept: 1000, ..LogPolicy::default() };
    supervisor.apply(vec![unit(SCRIPT, policy)]).await.unwrap();
    let mut follower = supervisor.follow("it", 0).await.unwrap();
    supervisor.start("it").await.unwrap();
    let mut long = 0;
    let mut texts = Vec::new();
    loop {
        let line = follower.next().await.unwrap();
        let text = line.splitn(3, ' ').nth(2).unwrap();
        if text == "end" {
            break;
        }
        // The long one has no end of its own, so the first strange one stands behind its last piece.
        let rest = text.trim_start_matches('x');
        long += text.len() - rest.len();
        if !rest.is_empty() {
            texts.push(rest.to_owned());
        }
    }
    assert_eq!(long, 10_000_000);
    assert_eq!(texts[..2], ["n\0l", "\u{fffd}"]);
    assert!(texts[2..].iter().map(String::as_str).eq((1..=20_000).map(|n| n.to_string()).collect::<Vec<_>>()));
    let last = supervisor.logs("it", 15_000).await.unwrap();
    assert_eq!(last.len(), 15_000);
    assert!(last[14_998].ends_with(" out 20000"));
    supervisor.shutdown(StopMode::Graceful).await.unwrap();
}

/// LOGS-02
#[tokio::test]
async fn no_line_of_a_flood_is_broken_or_missing() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let script = "yes 0123456789012345678901234567890123456789 | head -n 1000000; echo end; sleep 1000";
    supervisor.apply(vec![unit(script, LogPolicy { files_kept: 100, ..LogPolicy::default() })]).await.unwrap();
    let mut follower = supervisor.follow("it", 0).await.unwrap();
    supervisor.start("it").await.unwrap();
    let mut count = 0;
    loop {
        let line = follower.next().await.unwrap();
        match &line[29..] {
            "end" => break,
            text => assert_eq!(text, "0123456789012345678901234567890123456789"),
        }
        count += 1;
    }
    assert_eq!(count, 1_000_000);
    supervisor.shutdown(StopMode::Now).await.unwrap();
}

/// LOGS-07
#[tokio::test]
async fn a_changed_policy_holds_without_a_restart() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let policy = LogPolicy { file_bytes_max: 10_000, files_kept: 9, ..LogPolicy::default() };
    let script = "seq 1 2000; echo end; sleep 1000";
    supervisor.apply(vec![unit(script, policy)]).await.unwrap();
    let mut follower = supervisor.follow("it", 0).await.unwrap();
    supervisor.start("it").await.unwrap();
    while !follower.next().await.unwrap().ends_with("end") {}
    assert_eq!(scene.files("logs").len(), 7);
    let pid = supervisor.settled("it").await.unwrap().pid;
    supervisor.apply(vec![unit(script, LogPolicy { files_kept: 2, ..policy })]).await.unwrap();
    // Answered after what was asked before.
    supervisor.logs("it", 1).await.unwrap();
    assert_eq!(scene.files("logs"), ["it.log", "it.log.1", "it.log.2"]);
    let status = supervisor.settled("it").await.unwrap();
    assert_eq!((status.phase, status.pid, status.incarnation), (Phase::Running, pid, 1));
    supervisor.shutdown(StopMode::Now).await.unwrap();
}

/// LOGS-12
#[tokio::test]
async fn a_log_folder_that_cannot_be_written_to_is_told_before_anything_starts() {
    let scene = Scene::new();
    fs::write(scene.path("logs"), "a file, not a folder").unwrap();
    let opened = Supervisor::open(SupervisorConfig::new(scene.path("run"), scene.path("logs"))).await;
    let error = opened.unwrap_err();
    assert!(error.to_string().contains("logs"), "{error}");

    fs::remove_file(scene.path("logs")).unwrap();
    let supervisor = open(&scene).await;
    fs::set_permissions(scene.path("logs"), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write everywhere but into what is no file.
    fs::create_dir(scene.path("logs/it.log")).or_else(|_| fs::create_dir_all(scene.path("elsewhere"))).unwrap();
    match supervisor.apply(vec![unit("true", LogPolicy::default())]).await {
        Err(SupervisorError::File { doing: "log to", path, .. }) => assert_eq!(path, scene.path("logs/it.log")),
        other => panic!("{other:?}"),
    }
    assert!(supervisor.snapshot().is_empty());
    supervisor.shutdown(StopMode::Graceful).await.unwrap();
}
