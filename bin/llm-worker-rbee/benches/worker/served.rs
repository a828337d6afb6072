//! The worker's binary and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Tokens of each slot.
pub const CONTEXT: usize = 1024;
/// What all streams begin with.
pub const PROMPT: &str = "Once upon a time, in a village between two rivers, there lived an old woman who kept bees. \
    Every morning she walked to the hives, listened to them for a while, and";

/// A running worker; killed when dropped.
pub struct Worker {
    child: Child,
    url: String,
    client: reqwest::Client,
}

impl Worker {
    pub fn start(model: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-worker-rbee"));
        command.args(["--model-name", "m", "--listen", "127.0.0.1:0", "--threads", "1", "--model-path"]).arg(model);
        command.args(["--context", &CONTEXT.to_string()]).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for name in ["RUST_LOG", "RBEE_TOKEN", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(name);
        }
        #[expect(clippy::disallowed_methods, reason = "the bench runs the binary")]
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let (_, rest) = line.split_once("address=")?;
            rest.split_whitespace().next().map(str::to_owned)
        });
        let url = format!("http://{}", address.unwrap());
        // So that its log never fills the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    /// Asks it to end, and waits until it has.
    fn end(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    async fn ask(&self, prompt: Value, tokens: usize) -> reqwest::Response {
        let body = body(prompt, tokens);
        let request = self.client.post(format!("{}/v1/completions", self.url)).json(&body);
        let response = request.header("x-rbee-resumable", "1").send().await.unwrap();
        response.error_for_status().unwrap()
    }

    /// Of all streams together, from when each has its first token until the first has its last.
    pub fn tokens_a_second(&self, streams: usize, tokens: usize) -> f64 {
        let address = self.url.strip_prefix("http://").unwrap();
        let arrivals: Vec<_> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..streams).map(|_| scope.spawn(|| arrivals(address, tokens))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let begin = arrivals.iter().map(|stream| stream[0].0).max().unwrap();
        let end = arrivals.iter().map(|stream| stream[stream.len() - 1].0).min().unwrap();
        let within = arrivals.iter().flatten().filter(|(at, _)| *at > begin && *at <= end);
        let count: usize = within.map(|(_, count)| count).sum();
        count as f64 / (end - begin).as_secs_f64()
    }

    async fn first_token_ms(&self, prompt: &[usize]) -> f64 {
        let begin = Instant::now();
        let mut response = self.ask(json!(prompt), 1).await;
        let mut body = Vec::new();
        while !String::from_utf8_lossy(&body).lines().any(|line| tokens_in(line) > 0) {
            body.extend_from_slice(&response.chunk().await.unwrap().unwrap());
        }
        begin.elapsed().as_secs_f64() * 1000.0
    }

    async fn metric(&self, name: &str) -> u64 {
        let text = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn body(prompt: Value, tokens: usize) -> Value {
    json!({"model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true})
}

/// When tokens of one stream came, and how many at once. While it comes nothing is done but to look at the clock: on a
/// machine of two cores a client that works would be measured too.
fn arrivals(address: &str, tokens: usize) -> Vec<(Instant, usize)> {
    let body = body(PROMPT.into(), tokens).to_string();
    let mut socket = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nx-rbee-resumable: 1\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let (mut text, mut read) = (Vec::new(), Vec::new());
    let mut piece = [0; 16 << 10];
    loop {
        let count = socket.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        text.extend_from_slice(&piece[..count]);
        read.push((Instant::now(), text.len()));
    }
    let (mut arrivals, mut from, mut found) = (Vec::new(), 0, 0);
    for (at, to) in read {
        let count = String::from_utf8_lossy(&text[from..to]).lines().map(tokens_in).sum();
        if count > 0 {
            arrivals.push((at, count));
        }
        (from, found) = (to, found + count);
    }
    assert_eq!(found, tokens, "{}", String::from_utf8_lossy(&text));
    arrivals
}

/// How many tokens a line of a stream tells of.
fn tokens_in(line: &str) -> usize {
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    match fields[..] {
        [":", "rbee", _, "-", _] => 0,
        [":", "rbee", _, tokens, _] => tokens.split(',').count(),
        _ => 0,
    }
}

/// Milliseconds to the first token of `rounds` prompts of that many tokens: computed, and after a restart of the worker.
pub async fn first_token_ms(model: &Path, prefix: usize, rounds: usize) -> (Vec<f64>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let slots = rounds.to_string();
    let args = ["--slots", &slots, "--state-dir", folder.path().to_str().unwrap()];
    // Different from the first token on: none is another's beginning. The last token is always read.
    let prompt = |round: usize| (0..=prefix).map(|place| 1000 + round * 7 + place * 3 % 2000).collect::<Vec<_>>();
    let before = Worker::start(model, &args);
    let mut computed = Vec::new();
    for round in 0..rounds {
        computed.push(before.first_token_ms(&prompt(round)).await);
    }
    assert_eq!(before.metric("rbee_worker_cached_tokens_total").await, 0);
    before.end();
    let after = Worker::start(model, &args);
    let mut kept = Vec::new();
    for round in 0..rounds {
        kept.push(after.first_token_ms(&prompt(round)).await);
    }
    assert_eq!(after.metric("rbee_worker_prefixes_restored_total").await, rounds as u64);
    assert_eq!(after.metric("rbee_worker_cached_tokens_total").await, (rounds * prefix) as u64);
    (computed, kept)
}
