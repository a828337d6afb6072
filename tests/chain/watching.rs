//! `status --watch` in a real terminal and without one, and `events`: KEEP-14 to KEEP-20.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use predicates::prelude::*;
use rbee_tests::home::Home;
use rbee_tests::terminal::Terminal;
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::{SLEEPER, down, pid, up, worker};

const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that talks, with escape sequences and wide characters.
const TALKER: &str = r#"[worker.talker]
command = ["sh", "-c", "n=0; while sleep 0.2; do n=$((n+1)); printf 'line %d \\033[31mred\\033[2J 漢字 🐝\\007\\n' $n; done"]
ready = "started"
"#;

/// keeper with these words, to be run in a terminal or read line by line.
fn keeper(home: &Home, words: &[&str]) -> Command {
    let mut command = Command::new(rbee_tests::home::binary("rbee-keeper"));
    command.args(words).env("RBEE_HOME", home.path()).env("RUST_BACKTRACE", "0");
    for name in ["RBEE_CONFIG", "RBEE_QUEEN", "RBEE_HIVE", "RBEE_TOKEN", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}

fn watch(home: &Home, columns: u16, lines: u16) -> Terminal {
    Terminal::run(keeper(home, &["status", "--watch", "--every", "300ms"]), columns, lines)
}

/// Lines that a program prints, as they come; it is killed at the end.
struct Printed {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Printed {
    fn by(mut program: Command) -> Self {
        program.stdin(Stdio::null()).stdout(Stdio::piped());
        #[expect(clippy::disallowed_methods, reason = "a program that is read by a test, not supervised")]
        let mut child = program.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that has all these texts in it.
    fn line_with(&mut self, texts: &[&str]) -> String {
        let fits = |line: &String| texts.iter().all(|text| line.contains(text));
        self.lines.by_ref().map(Result::unwrap).find(fits).unwrap_or_else(|| panic!("{texts:?} was not printed"))
    }

    fn document_with(&mut self, texts: &[&str]) -> Value {
        serde_json::from_str(&self.line_with(texts)).unwrap()
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// KEEP-14, KEEP-16
#[test]
fn the_view_shows_what_runs_and_its_keys_act() {
    let home = Home::with_config(&format!("{SLEEPER}\n{TALKER}"));
    let before = pid(worker(&up(&home)));
    let mut view = watch(&home, 80, 24);
    view.wait_for(&["queen", "local", "sleeper/0", "talker/0", "2 running"]);
    assert!(view.is_taken());

    view.press("r");
    view.wait_for(&["local:sleeper/0 restarted"]);
    assert_ne!(pid(worker(&home.status())), before, "the first worker is selected and was restarted");

    view.press("K");
    view.wait_for(&["kill local:sleeper/0? y / n"]);
    view.press("n");
    view.wait_for(&["not done: kill local:sleeper/0"]);
    assert_eq!(worker(&home.status())["phase"], "running");
    view.press("Ky");
    view.wait_for(&["local:sleeper/0 killed", "1 stopped"]);
    assert_eq!(worker(&home.status())["phase"], "stopped");
    view.press("s");
    view.wait_for(&["local:sleeper/0 started", "2 running"]);
    view.press("+");
    view.wait_for(&["sleeper/1", "3 running"]);

    // What happened is told too; and queen has a log.
    view.wait_for(&["events", "running       sleeper/1"]);
    view.press("g");
    view.wait_for(&["log of queen", " INFO "]);
    view.press("?");
    view.wait_for(&["rolling restart of all replicas"]);
    view.press("?");
    view.press("q");
    let (status, shown) = view.ended();
    assert_eq!(status.code(), Some(0));
    assert!(!shown.contains("sleeper/0"), "the view is still shown:\n{shown}");
    down(&home);
}

/// KEEP-14, KEEP-17
#[test]
fn a_log_is_followed_harmlessly_at_every_size() {
    let home = Home::with_config(TALKER);
    up(&home);
    let mut view = watch(&home, 80, 24);
    view.wait_for(&["log of local:talker/0", "line 3 red 漢字 🐝", "line 5 red"]);
    for (columns, lines) in [(20, 6), (1, 1), (200, 50), (20, 10)] {
        view.resize(columns, lines);
        if columns >= 20 {
            view.wait_for(&["rbee", "talker/0", "? help"]);
        }
    }
    view.press("\r");
    view.wait_for(&["log of local"]);
    let first = |text: &str| {
        text.lines().find_map(|line| line.trim().strip_prefix("line ")?.split(' ').next()?.parse::<u32>().ok())
    };
    let seen = wait::until("a line", PATIENCE, || first(&view.text()));
    wait::until("newer lines", PATIENCE, || first(&view.text()).filter(|n| *n > seen + 3));
    // A filter of the log lets through what fits.
    view.press("/line 7 \r");
    view.wait_for(&["line 7 red"]);
    wait::until("the others to go", PATIENCE, || (!view.text().contains("line 8 ")).then_some(()));
    // As a key: in this mode it is no signal.
    view.press("\x03");
    assert_eq!(view.ended().0.code(), Some(0));
    down(&home);
}

/// KEEP-14
#[test]
fn queen_crashes_and_comes_back_before_the_eyes() {
    let home = Home::with_config(SLEEPER);
    let queen = pid(&up(&home)["queen"]);
    let view = watch(&home, 80, 24);
    view.wait_for(&["sleeper/0", "1 running"]);
    processes::crash(queen);
    view.wait_for(&["✗ away", "sleeper/0"]);
    home.keeper(&["queen", "start"]).assert().success();
    view.wait_for(&["1 running", "sleeper/0"]);
    view.signal(Signal::TERM);
    assert_eq!(view.ended().0.code(), Some(128 + 15), "as shells tell of a signal");
    down(&home);
}

/// KEEP-15
#[test]
fn without_colours_the_view_has_none() {
    let home = Home::with_config(SLEEPER);
    up(&home);
    let mut program = keeper(&home, &["status", "--watch"]);
    program.env("NO_COLOR", "1");
    let mut view = Terminal::run(program, 80, 24);
    view.wait_for(&["● ", "running", "sleeper/0"]);
    assert!(!view.has_colors());
    view.press("q");
    view.ended();
    let mut view = watch(&home, 80, 24);
    view.wait_for(&["● ", "running", "sleeper/0"]);
    assert!(view.has_colors());
    view.press("q");
    view.ended();
    down(&home);
}

/// KEEP-18
#[test]
fn without_a_terminal_each_change_is_a_line() {
    let home = Home::with_config(SLEEPER);
    let first = pid(worker(&up(&home)));
    let mut plain = Printed::by(keeper(&home, &["status", "--watch", "--every", "300ms"]));
    let mut json = Printed::by(keeper(&home, &["status", "--watch", "--every", "300ms", "--json"]));
    plain.line_with(&["NAME", "PHASE"]);
    plain.line_with(&["sleeper/0", "running"]);
    let tree = json.document_with(&[]);
    assert_eq!(tree["status"]["hives"][0]["workers"][0]["pid"], first, "{tree}");
    home.keeper(&["worker", "stop", "sleeper"]).assert().success();
    plain.line_with(&["local:sleeper/0", "→ stopped"]);
    let change = json.document_with(&["stopped"]);
    assert_eq!((&change["change"]["daemon"], &change["change"]["hive"]), (&"sleeper/0".into(), &"local".into()));
    home.keeper(&["queen", "kill"]).assert().success();
    plain.line_with(&["queen", "running → "]);
    home.keeper(&["queen", "start"]).assert().success();
    plain.line_with(&["queen", "→ running"]);
    drop((plain, json));
    down(&home);
}

/// Ids and kinds of what happened to the sleeper, as `events --json` lists them.
fn listed(home: &Home, words: &[&str]) -> Vec<(u64, String)> {
    let (reply, code) = home.json(&[&["events"], words].concat());
    assert_eq!(code, 0, "{reply}");
    reply["events"].as_array().unwrap().iter().map(told).collect()
}

fn told(event: &Value) -> (u64, String) {
    (event["id"].as_u64().unwrap(), event["kind"].as_str().unwrap().to_owned())
}

/// KEEP-19
#[test]
fn each_event_is_told_once_over_a_restart_of_queen() {
    let home = Home::with_config(SLEEPER);
    let first = pid(worker(&up(&home)));
    let of_sleeper = ["--daemon", "sleeper/0"];
    wait::until("the start", PATIENCE, || {
        listed(&home, &of_sleeper).iter().any(|(_, kind)| kind == "running").then_some(())
    });
    let mut follow = Printed::by(keeper(&home, &["events", "-f", "--json", "--daemon", "sleeper/0", "--since", "1h"]));
    let mut seen = vec![told(&follow.document_with(&[]))];
    assert_eq!(seen[0].1, "starting", "{seen:?}");
    // Queen is away while the worker falls; her hive tells it when she is back.
    home.keeper(&["queen", "kill"]).assert().success();
    processes::crash(first);
    home.keeper(&["queen", "start"]).assert().success();
    home.keeper(&["worker", "stop", "sleeper"]).assert().success();
    while seen.last().is_none_or(|(_, kind)| kind != "stopped") {
        seen.push(told(&follow.document_with(&[])));
    }
    drop(follow);
    assert!(seen.iter().any(|(_, kind)| kind == "restarting"), "{seen:?}");
    assert!(seen.is_sorted_by(|(a, _), (b, _)| a < b), "{seen:?}");
    assert_eq!(listed(&home, &["--since", "1h", "--daemon", "sleeper/0"]), seen, "a gap, or one twice");

    // After an id; of one kind; from a time that is still to come; for people.
    let (id, _) = seen[seen.len() - 2];
    assert_eq!(listed(&home, &["--since", &id.to_string(), "--daemon", "sleeper/0"]), seen[seen.len() - 1..]);
    assert!(listed(&home, &["--kind", "stopped,failed"]).iter().all(|(_, kind)| kind == "stopped" || kind == "failed"));
    assert_eq!(listed(&home, &["--since", "2999-01-01"]), []);
    assert_eq!(listed(&home, &["-n", "1", "--daemon", "sleeper/0"]), seen[seen.len() - 1..]);
    home.keeper(&["events", "--kind", "restarting"])
        .assert()
        .success()
        .stdout(predicates::str::contains("restarting").and(predicates::str::contains("local:sleeper/0")));
    down(&home);
}

/// KEEP-19
#[test]
fn a_hive_that_stands_alone_tells_its_events() {
    let (home, url) = crate::alone::home_without_queen();
    let hive = crate::alone::Hive::run(&home);
    let line = wait::until("the start", PATIENCE, || {
        let output = home.keeper(&["--hive", &url, "events", "--kind", "running"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.contains("sleeper/0")).map(str::to_owned)
    });
    assert!(line.contains("running"), "{line}");
    drop(hive);
}

/// KEEP-19
#[test]
fn an_unknown_kind_and_a_senseless_time_are_refused_with_what_to_write() {
    let home = Home::empty();
    for (words, error, hint) in [
        (["events", "--kind", "faild"], "invalid value 'faild'", "'failed'"),
        (["events", "--since", "yesterday"], "write an age such as 10m", "events --help"),
        (["status", "--every", "2s"], "--watch", "hint: "),
    ] {
        home.keeper(&words)
            .assert()
            .code(64)
            .stderr(predicates::str::contains(error).and(predicates::str::contains(hint)));
    }
}
