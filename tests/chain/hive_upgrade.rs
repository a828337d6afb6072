//! A hive becomes a new binary in place: UPGR-08, UPGR-09.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rbee_tests::home::{Home, binaries, binary};
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{down, pid, up};

const WITHIN: Duration = Duration::from_secs(60);

/// One that writes numbered lines as long as it lives, and one that ends as it is told.
const TALKERS: &str = "\
[worker.counter]
command = [\"sh\", \"-c\", \"i=0; while :; do i=$((i+1)); echo line $i; sleep 0.005; done\"]
ready = \"started\"

[worker.quitter]
command = [\"sh\", \"-c\", \"trap 'exit 7' USR1; while :; do sleep 0.05; done\"]
ready = \"started\"
restart = { policy = \"never\" }
";

/// Our programs in a folder of their own, where one can be replaced.
fn programs() -> TempDir {
    // Beside the binaries: links do not cross file systems.
    let folder = TempDir::with_prefix_in("hive-upgrade-", binaries()).unwrap();
    for name in ["rbee-keeper", "queen-rbee", "rbee-hive"] {
        fs::hard_link(binary(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// Puts another binary in the hive's place, as an installer does.
fn install(folder: &Path, from: &Path) -> u64 {
    let (place, new) = (folder.join("rbee-hive"), folder.join("new"));
    fs::copy(from, &new).unwrap();
    fs::rename(&new, &place).unwrap();
    fs::metadata(place).unwrap().ino()
}

/// The file that a process runs.
fn runs(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
}

fn named<'s>(status: &'s Value, name: &str) -> &'s Value {
    status["hives"][0]["workers"].as_array().unwrap().iter().find(|worker| worker["name"] == name).unwrap()
}

/// The numbers that the counter wrote, as its log has them.
fn counted(home: &Home) -> Vec<u64> {
    let log = fs::read_to_string(home.path().join("state/logs/workers/counter.0.log")).unwrap();
    log.lines().filter_map(|line| line.rsplit_once("line ")?.1.parse().ok()).collect()
}

fn same_below(home: &Home, before: &Value) {
    let after = home.status();
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    for name in ["counter", "quitter"] {
        assert_eq!(pid(named(&after, name)), pid(named(before, name)));
        assert_eq!(named(&after, name)["incarnation"], 1);
    }
}

/// What an upgrade of the hive must leave as it was, and what must be true after it. `words`: how keeper reaches it.
fn upgrades_in_place(home: &Home, folder: &Path, words: &[&str], before: &Value) {
    let hive = pid(&before["hives"][0]);
    let upgrade = || home.json(&[words, &["hive", "upgrade", "local"]].concat());
    for _ in 0..3 {
        let new = install(folder, &binary("rbee-hive"));
        let (reply, code) = upgrade();
        assert_eq!((reply["pid"].as_u64(), code), (Some(hive.into()), 0), "{reply}");
        assert_eq!(runs(hive), new, "the new file is what runs");
        same_below(home, before);
    }
    // What is no hive takes nobody's place.
    let runs_now = runs(hive);
    for (from, why) in [
        // Ours, but another: it says so itself, or stumbles over the arguments of a hive.
        (binary("queen-rbee"), if words.is_empty() { "unexpected argument" } else { "is queen-rbee, not rbee-hive" }),
        (binary("rbee-keeper"), "does not pass its self-check"),
        (home.path().join("rbee.toml"), "is not executable"),
    ] {
        install(folder, &from);
        let (error, code) = upgrade();
        assert_eq!((error["error"]["code"].as_str(), code), (Some("upgrade_failed"), 1), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(why), "{why}: {error}");
        assert_eq!(runs(hive), runs_now);
        same_below(home, before);
    }
    install(folder, &binary("rbee-hive"));
    // Its children are still its own: how one ends is known.
    assert!(processes::send(pid(named(before, "quitter")), Signal::USR1));
    wait::until("the quitter's exit code", WITHIN, || {
        let status = home.json(&[words, &["status"]].concat()).0;
        named(&status, "quitter")["reason"].as_str().is_some_and(|reason| reason.contains("exit code 7")).then_some(())
    });
    let numbers = counted(home);
    assert!(numbers.len() > 20, "{numbers:?}");
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "no line is lost: {numbers:?}");
}

/// UPGR-08, UPGR-09
#[test]
fn a_hive_of_queens_becomes_the_new_binary_and_keeps_its_workers() {
    let folder = programs();
    let home = Home::with_programs(folder.path());
    home.write_config(TALKERS);
    let before = up(&home);
    upgrades_in_place(&home, folder.path(), &[], &before);
    // What was come to is not done again: a new process is what its start made it.
    let hive = pid(&before["hives"][0]);
    processes::crash(hive);
    let after = wait::until("a new hive", WITHIN, || {
        let status = home.status();
        let hive_now = &status["hives"][0];
        (hive_now["phase"] == "running" && pid(hive_now) != hive).then_some(status)
    });
    assert_eq!(pid(named(&after, "counter")), pid(named(&before, "counter")));
    let log = fs::read_to_string(home.path().join("state/logs/hives/local.log")).unwrap();
    assert_eq!(log.matches("upgrade: leaves the workers").count(), 3, "{log}");
    down(&home);
}

/// UPGR-08, UPGR-09
#[test]
fn a_hive_that_stands_alone_becomes_the_new_binary_and_keeps_its_workers() {
    let folder = programs();
    let home = Home::with_programs(folder.path());
    home.write_config(TALKERS);
    let text = fs::read_to_string(home.path().join("rbee.toml")).unwrap();
    let alone: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("queen = "))
        .map(|line| if line.starts_with("role") { "role = \"worker\"" } else { line })
        .collect();
    fs::write(home.path().join("rbee.toml"), alone.join("\n")).unwrap();
    let before = up(&home);
    let url = format!("http://127.0.0.1:{}", home.hive_port);
    upgrades_in_place(&home, folder.path(), &["--hive", &url], &before);
    down(&home);
}
