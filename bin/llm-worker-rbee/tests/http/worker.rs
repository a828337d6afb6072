//! A worker process and its client.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
const ADDRESS: &str = "address=";

/// The test model, or `None` with a word of why nothing is tested.
pub fn test_model() -> Option<PathBuf> {
    let path = std::env::var_os("RBEE_TEST_MODEL").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: RBEE_TEST_MODEL does not name a GGUF file");
    }
    path
}

/// A command line of the worker that reads nothing from this process's surroundings.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-worker-rbee"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    for name in ["RUST_LOG", "RBEE_TOKEN", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
        command.env_remove(name);
    }
    command
}

/// Runs a worker that is expected to end by itself; its exit code and stderr.
pub fn run_to_end(args: &[&str]) -> (Option<i32>, String) {
    #[expect(clippy::disallowed_methods, reason = "the test runs the binary")]
    let output = command(args).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Runs a worker, sends it `signal` when its log has `line`, and waits for its end; exit status and log.
pub async fn run_until(args: &[&str], line: &str, signal: Signal) -> (ExitStatus, String) {
    let mut command = command(args);
    #[expect(clippy::disallowed_methods, reason = "the test runs the binary")]
    let mut child = command.spawn().unwrap();
    let line = line.to_owned();
    let task = tokio::task::spawn_blocking(move || {
        let mut log = String::new();
        for read in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            if read.contains(&line) {
                kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
            }
            log.push_str(&format!("{read}\n"));
        }
        (child.wait().unwrap(), log)
    });
    tokio::time::timeout(PATIENCE, task).await.expect("it does not end").unwrap()
}

/// A running worker; killed when dropped.
pub struct Worker {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
    client: reqwest::Client,
}

impl Worker {
    /// Starts one on a free port and waits until it serves; `None` without a test model.
    pub fn start(args: &[&str]) -> Option<Self> {
        Self::start_with(args, |_| {})
    }

    pub fn start_with(args: &[&str], adjust: impl FnOnce(&mut Command)) -> Option<Self> {
        let model = test_model()?;
        let fixed = ["--model-path", model.to_str().unwrap(), "--model-name", "m", "--listen", "127.0.0.1:0"];
        let mut command = command(&[&fixed[..], &["--threads", "1"], args].concat());
        adjust(&mut command);
        #[expect(clippy::disallowed_methods, reason = "the test runs the binary")]
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next().expect("it ended before it served").unwrap();
            log.lock().unwrap().push_str(&format!("{line}\n"));
            if let Some((_, rest)) = line.split_once(ADDRESS) {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        let rest = log.clone();
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| rest.lock().unwrap().push_str(&format!("{line}\n")));
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Some(Self { child, url: format!("http://{address}"), log, reader: Some(reader), client })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for its end; the exit status and everything it logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let task = tokio::task::spawn_blocking(move || {
            let status = self.child.wait().unwrap();
            self.reader.take().unwrap().join().unwrap();
            let log = self.log.lock().unwrap().clone();
            (status, log)
        });
        tokio::time::timeout(PATIENCE, task).await.expect("it does not end").unwrap()
    }

    pub fn post(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).json(body)
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Status and JSON body.
    pub async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.post(path, body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn health(&self) -> Value {
        self.client.get(format!("{}/health", self.url)).send().await.unwrap().json().await.unwrap()
    }

    /// Asks for the health again and again until it is as wanted.
    pub async fn wait_for_health(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                let health = self.health().await;
                if wanted(&health) {
                    return health;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(health) => health,
            Err(_) => panic!("never {what}: {}", self.health().await),
        }
    }

    /// The text of a whole text completion.
    pub async fn complete(&self, body: &Value) -> String {
        let (status, answer) = self.ask("/v1/completions", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["choices"][0]["text"].as_str().unwrap().to_owned()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The data lines of a stream that has ended, and its comments.
pub fn events(body: &str) -> Vec<&str> {
    let events = body.split("\n\n").filter(|event| !event.is_empty());
    events.filter(|event| !event.starts_with(':')).map(|event| event.strip_prefix("data: ").unwrap()).collect()
}

/// A text completion that goes on until `tokens`, whatever the model thinks.
pub fn long(prompt: &str, tokens: u32) -> Value {
    json!({"model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true})
}
