//! The real binary: its exit codes, and what SIGKILL does to the work below it (nothing).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rbee_api::{ControlClient, Phase};

use crate::support::{Home, TOKEN, client, gone, in_phase, is_alive};

const WORKERS: &str = "[worker.a]\ncommand = [\"sleep\", \"1000\"]\nreplicas = 2\n\
    [worker.web]\ncommand = [\"python3\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \"127.0.0.1\"]\n\
    start_timeout = \"60s\"\n";

/// A hive process; killed when the test fails.
struct HiveProcess {
    child: Child,
    client: ControlClient,
}

impl HiveProcess {
    fn start(home: &Home) -> Self {
        let mut child = spawn(command(home).stderr(Stdio::piped()));
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = log.lines();
        let url = lines.by_ref().map(Result::unwrap).find_map(|line| {
            let (_, url) = line.split_once("ready url=")?;
            Some(url.trim_matches('"').to_owned())
        });
        let url = url.expect("the hive ended before it was ready");
        // Whoever reads nothing must not block it, but a closed pipe is another thing: read on.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, client: client(&url) }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal and waits for the end.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for HiveProcess {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(home: &Home) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbee-hive"));
    command.arg("run").env("RBEE_HOME", home.path()).env("RBEE_TOKEN", TOKEN).env("RUST_LOG", "info");
    command.env_remove("RBEE_CONFIG").env_remove("NOTIFY_SOCKET").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[expect(clippy::disallowed_methods, reason = "a test runs the binary as a user does")]
fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap()
}

/// HIVE-04, HIVE-08, HIVE-09
#[tokio::test]
async fn kill_9_disturbs_no_worker_and_the_next_hive_adopts_them_all() {
    let home = Home::new(WORKERS);
    let hive = HiveProcess::start(&home);
    let mut before = Vec::new();
    for (name, replica) in [("a", 0), ("a", 1), ("web", 0)] {
        before.push(in_phase(&hive.client, name, replica, Phase::Running).await);
    }
    assert_eq!(hive.end(Signal::SIGKILL), None);
    let port = before[2].port.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(format!("http://127.0.0.1:{port}/")).send().await.unwrap();
    assert!(answer.status().is_success(), "the worker answers while no hive is there");

    let hive = HiveProcess::start(&home);
    for worker in &before {
        let now = in_phase(&hive.client, &worker.name, worker.replica, Phase::Running).await;
        assert_eq!((now.pid, now.port, now.incarnation), (worker.pid, worker.port, worker.incarnation));
    }
    assert_eq!(hive.end(Signal::SIGTERM), Some(0));
    for worker in before {
        gone(worker.pid.unwrap()).await;
    }
    assert_eq!(home.run_files(), [""; 0]);
}

#[tokio::test]
async fn a_second_hive_is_refused_and_told_who_is_first() {
    let home = Home::new("[worker.a]\ncommand = [\"sleep\", \"1000\"]\n");
    let hive = HiveProcess::start(&home);
    let worker = in_phase(&hive.client, "a", 0, Phase::Running).await;
    let second = assert_cmd::Command::from_std(command(&home)).assert().code(75);
    let said = String::from_utf8_lossy(&second.get_output().stderr).into_owned();
    assert!(said.contains("error: ") && said.contains(&hive.pid().to_string()) && said.contains("hint: "), "{said}");
    assert!(is_alive(worker.pid.unwrap()), "the second one touched nothing");
    assert_eq!(hive.end(Signal::SIGTERM), Some(0));
}

#[test]
fn what_is_wrong_at_the_start_has_its_exit_code() {
    let home = Home::new("[worker.a]\ncomand = [\"sleep\", \"1\"]\n");
    let run = |home: &Home, args: &[&str], code: i32| {
        let mut command = command(home);
        command.args(args);
        let done = assert_cmd::Command::from_std(command).assert().code(code);
        String::from_utf8_lossy(&done.get_output().stderr).into_owned()
    };
    let said = run(&home, &[], 78);
    assert!(said.contains("comand") && said.contains("command"), "{said}");
    home.configure("");
    let said = run(&home, &["--config", "/no/such/rbee.toml"], 78);
    assert!(said.contains("/no/such/rbee.toml"), "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = run(&home, &["--listen", &address.to_string()], 69);
    assert!(said.contains(&address.port().to_string()) && said.contains("hint: "), "{said}");
    run(&home, &["--name", "no name"], 64);
    run(&home, &["--profile", "nobody"], 78);
    let help = assert_cmd::Command::new(env!("CARGO_BIN_EXE_rbee-hive")).args(["run", "--help"]).assert().code(0);
    assert!(String::from_utf8_lossy(&help.get_output().stdout).contains("Examples:"));
}
