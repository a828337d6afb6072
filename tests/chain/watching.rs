//! `status --watch` in a real terminal and without one, and `events`: KEEP-14 to KEEP-20.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
