//! Upgrades in place: UPGR-01 to UPGR-06. With the mock worker, whose streams last as long as a test wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rbee_tests::home::{Home, binary};
use rbee_tests::mock::{self, MockChain};
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up, worker};

const WITHIN: Duration = Duration::from_secs(60);
const CHAT: &str = "/v1/chat/completions";

/// The pid in queen's PID file.
fn pid_file(home: &Home) -> u32 {
    fs::read_to_string(home.path().join("run/queen.pid")).unwrap().trim().parse().unwrap()
}

fn upgraded(home: &Home, words: &[&str]) -> (u32, u32) {
    let (reply, code) = home.json(&[&["queen", "upgrade"], words].concat());
    assert_eq!(code, 0, "{reply}");
    let number = |key: &str| u32::try_from(reply[key].as_u64().unwrap()).unwrap();
    (number("previous_pid"), number("pid"))
}

/// The processes of this home that are queens.
fn queens(home: &Home) -> Vec<u32> {
    let is_queen = |command: &str| command.split(' ').next().is_some_and(|program| program.ends_with("queen-rbee"));
    home.processes().into_iter().filter(|process| is_queen(&process.command)).map(|process| process.pid).collect()
}

fn log(home: &Home) -> String {
    fs::read_to_string(home.path().join("state/logs/queen.log")).unwrap_or_default()
}

/// One streamed answer of so many tokens, some seconds long; all that came.
fn stream(home: &Home, client: &Client, tokens: i64) -> String {
    stream_telling(home, client, tokens, &AtomicBool::new(false))
}

/// The same, which tells when the answer has begun.
fn stream_telling(home: &Home, client: &Client, tokens: i64, begun: &AtomicBool) -> String {
    let mut body = client.chat_body("count", tokens);
    (body["stream"], body["user"]) = (json!(true), json!("30/s"));
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let request = agent.post(format!("{}{CHAT}", home.queen_url())).content_type("application/json");
    let mut answer = request.send(body.to_string()).unwrap();
    begun.store(true, Ordering::Relaxed);
    answer.body_mut().read_to_string().unwrap()
}

/// UPGR-01
#[test]
fn an_upgrade_breaks_no_stream_and_touches_nothing_below() {
    let chain = MockChain::up("", "");
    let home = &chain.home;
    let before = home.status();
    let client = Client::new(&home.queen_url(), mock::NAME);
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut pids = vec![pid(&before["queen"])];
    thread::scope(|scope| {
        let long = || stream(home, &client, 150);
        let streams: Vec<_> = (0..8).map(|_| scope.spawn(long)).collect();
        let hammer = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                Client::new(&home.queen_url(), mock::NAME).chat("short", 3).unwrap();
                // A connection that is kept open over the upgrade answers too.
                client.chat("short", 3).unwrap();
                answered += 2;
                begun.store(true, Ordering::Relaxed);
            }
            answered
        });
        wait::until("the first answers", WITHIN, || begun.load(Ordering::Relaxed).then_some(()));
        for _ in 0..3 {
            let (old, new) = upgraded(home, &[]);
            assert_eq!(pids.last(), Some(&old));
            assert_eq!(pid_file(home), new, "UPGR-04");
            pids.push(new);
        }
        for stream in streams {
            let text = stream.join().unwrap();
            assert!(text.trim_end().ends_with("data: [DONE]") && !text.contains("\"error\""), "{text}");
            assert!(text.matches("data: {").count() >= 150, "{text}");
        }
        over.store(true, Ordering::Relaxed);
        assert!(hammer.join().unwrap() > 10);
    });
    let after = home.status();
    assert_eq!(pid(&after["queen"]), *pids.last().unwrap());
    assert_eq!(after["queen"]["restarts"], 0, "an upgrade is no crash");
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    assert_eq!(pid(worker(&after)), pid(worker(&before)));
    assert_eq!(worker(&after)["incarnation"], 1);
    let last = pids.pop().unwrap();
    for old in pids {
        processes::wait_gone(old, WITHIN);
    }
    assert_eq!(queens(home), [last], "the old ones end by themselves");
    // The heir is a full queen: it orders, and it sees what dies.
    home.keeper(&["worker", "restart", mock::NAME]).assert().success();
    processes::crash(pid(&after["hives"][0]));
    wait::until("a new hive", WITHIN, || {
        let hive = &home.status()["hives"][0];
        (hive["phase"] == "running" && pid(hive) != pid(&before["hives"][0])).then_some(())
    });
    chain.down();
}

/// UPGR-10
#[test]
fn a_queen_between_two_others_stays_as_long_as_the_oldest_writes() {
    let chain = MockChain::up("", "");
    let home = &chain.home;
    let client = Client::new(&home.queen_url(), mock::NAME);
    let oldest = pid(&home.status()["queen"]);
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        let long = scope.spawn(|| stream_telling(home, &client, 300, &begun));
        wait::until("the answer begins", WITHIN, || begun.load(Ordering::Relaxed).then_some(()));
        let (_, between) = upgraded(home, &[]);
        upgraded(home, &[]);
        wait::until("the oldest has written her last answer", WITHIN, || {
            let there = queens(home);
            if !there.contains(&between) {
                assert!(!queens(home).contains(&oldest), "nobody tells her of the fleet any more");
            }
            (!there.contains(&oldest)).then_some(())
        });
        let text = long.join().unwrap();
        assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
        processes::wait_gone(between, WITHIN);
    });
    chain.down();
}

/// A place for binaries that are none, on the file system of the real ones.
fn place() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix_in("upgrade-", rbee_tests::home::binaries()).unwrap()
}

fn put(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// UPGR-02, UPGR-03
#[test]
fn a_binary_that_is_no_queen_changes_nothing() {
    let home = Home::empty();
    home.write_config_with("upgrade_timeout = \"3s\"\n", SLEEPER);
    let before = up(&home);
    let folder = place();
    let impostor = |name: &str| {
        fs::hard_link(binary("impostor"), folder.path().join(name)).unwrap();
        folder.path().join(name)
    };
    let mut foreign = fs::read(binary("queen-rbee")).unwrap()[..4096].to_vec();
    foreign[18] = 0xb7;
    let cases = [
        (folder.path().join("none"), "does not exist"),
        (folder.path().to_owned(), "is no file"),
        (put(folder.path(), "text", b"hello", 0o644), "is not executable"),
        (put(folder.path(), "script", b"#!/bin/sh\nexit 0\n", 0o755), "is no program (no ELF file)"),
        (put(folder.path(), "foreign", &foreign, 0o755), "is a program for aarch64"),
        (binary("rbee-hive"), "is rbee-hive, not queen-rbee"),
        (binary("mock-worker"), "does not pass its self-check"),
        (impostor("mute"), "does not pass its self-check (exit code 0): it said nothing"),
        (impostor("stranger"), "is rbee-hive, not queen-rbee"),
        (impostor("failing"), "error: it does not feel well"),
        (impostor("dies"), "the new queen ended while it was starting"),
        (impostor("refuses"), "it does not like it here"),
        (impostor("dies-late"), "the new queen ended while it was taking over"),
        (impostor("hangs"), "time was over while the new queen was taking over"),
    ];
    for (path, why) in cases {
        let (error, code) = home.json(&["queen", "upgrade", "--binary", path.to_str().unwrap()]);
        assert_eq!((error["error"]["code"].as_str(), code), (Some("upgrade_failed"), 1), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(why), "{why}: {error}");
        let status = home.status();
        assert_eq!((&status["queen"]["pid"], &status["queen"]["phase"]), (&before["queen"]["pid"], &json!("running")));
        assert_eq!(queens(&home), [pid(&before["queen"])], "nothing of {} is left", path.display());
        // She still is a queen, not only a process: an order is carried out.
        home.keeper(&["worker", "restart", "sleeper"]).assert().success();
    }
    let after = home.status();
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    let (_, new) = upgraded(&home, &[]);
    assert_eq!(pid(&home.status()["queen"]), new, "the next one, which is ours, succeeds");
    down(&home);
}

/// UPGR-05
#[test]
fn of_two_upgrades_at_once_one_wins() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    let barrier = std::sync::Barrier::new(2);
    let token = home.token();
    let client = Client::new(&home.queen_url(), "none").with_token(&token);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            client.post("/api/v1/upgrade", b"{}")
        };
        let asks: Vec<_> = (0..2).map(|_| scope.spawn(ask)).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{answers:?}");
    let after = home.status();
    assert_eq!(pid(&after["queen"]), pid_file(&home));
    assert_ne!(pid(&after["queen"]), pid(&before["queen"]));
    down(&home);
}

/// Kills what `victim` finds as soon as queen's log has these words, in the middle of an upgrade; then all must be well.
fn killed_in_the_middle(words: &str, victim: impl Fn(&Home, u32) -> Option<u32>) {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    let old = pid(&before["queen"]);
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| home.json(&["queen", "upgrade"]));
        wait::until(words, WITHIN, || log(&home).contains(words).then_some(()));
        let victim = wait::until("the victim", WITHIN, || victim(&home, old));
        // It may have come to its end by itself.
        processes::send(victim, rustix::process::Signal::KILL);
        processes::wait_gone(victim, WITHIN);
        upgrade.join().unwrap();
    });
    // Whoever is queen now, or is started by this: it answers, and there is one.
    home.keeper(&["worker", "list"]).assert().success();
    let after = wait::until("all is well", WITHIN, || {
        let status = home.status();
        let well = status["queen"]["phase"] == "running" && worker(&status)["phase"] == "running";
        well.then_some(status)
    });
    assert_eq!(pid(&after["queen"]), pid_file(&home));
    wait::until("one queen", WITHIN, || (queens(&home) == [pid(&after["queen"])]).then_some(()));
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    assert_eq!(pid(worker(&after)), pid(worker(&before)));
    home.keeper(&["worker", "restart", "sleeper"]).assert().success();
    down(&home);
}

const BEGUN: &str = "upgrade: the new queen starts";
const HANDS_OVER: &str = "upgrade: hands over";

/// UPGR-06
#[test]
fn the_death_of_the_old_queen_in_the_middle_leaves_one_queen() {
    killed_in_the_middle(BEGUN, |_, old| Some(old));
    killed_in_the_middle(HANDS_OVER, |_, old| Some(old));
}

/// UPGR-06
#[test]
fn the_death_of_the_new_queen_in_the_middle_leaves_one_queen() {
    let new = |home: &Home, old: u32| queens(home).into_iter().find(|queen| *queen != old);
    killed_in_the_middle(BEGUN, new);
    killed_in_the_middle(HANDS_OVER, new);
}

/// UPGR-07
#[test]
fn a_service_manager_is_told_who_the_main_process_is() {
    let home = Home::with_config(SLEEPER);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    let mut command = std::process::Command::new(binary("queen-rbee"));
    command.env("RBEE_HOME", home.path()).env("NOTIFY_SOCKET", &path).arg("run");
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    #[expect(clippy::disallowed_methods, reason = "a service manager starts it")]
    let mut queen = command.spawn().unwrap();
    let hear = |wanted: &str| {
        let mut buffer = [0; 1024];
        loop {
            let len = socket.recv(&mut buffer).unwrap();
            let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some(line) = said.lines().find(|line| line.starts_with(wanted)) {
                return line.to_owned();
            }
        }
    };
    hear("READY=1");
    let client = Client::new(&home.queen_url(), "none").with_token(&home.token());
    let reply: Value = client.post("/api/v1/upgrade", b"{}").body;
    assert_eq!(hear("MAINPID="), format!("MAINPID={}", reply["pid"]));
    assert!(queen.wait().unwrap().success(), "the old one ends in order");
    let new = u32::try_from(reply["pid"].as_u64().unwrap()).unwrap();
    assert!(processes::send(new, rustix::process::Signal::TERM));
    processes::wait_gone(new, WITHIN);
    assert_eq!(home.processes(), [], "and so does the new one, with all below");
}
