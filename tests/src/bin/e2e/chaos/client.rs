//! The real client as a process: many streams, judged there, told here.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rbee_tests::model;
use serde::Deserialize;
use serde_json::Value;

/// Nothing it says takes longer: the last streams end within it too.
const PATIENCE: Duration = Duration::from_secs(300);

/// What it saw.
#[derive(Debug, Deserialize)]
pub struct Seen {
    pub streams: u64,
    pub resumed: u64,
    pub resumes: u64,
    pub resumes_max: u64,
    pub errors: u64,
    pub different: u64,
    pub tokens: u64,
    pub slowest_s: f64,
    pub slowest_first_s: f64,
    pub complaints: Vec<String>,
}

pub struct Client {
    child: Child,
    orders: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "the client is a program that runs and ends")]
    pub fn start(queen_url: &str, streams: usize) -> Result<Self> {
        let python =
            std::env::var_os("RBEE_TEST_PYTHON").context("RBEE_TEST_PYTHON is not set; `cargo xtask` sets it")?;
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/chaos_client.py"))
            .args([&format!("{queen_url}/v1"), model::NAME, &streams.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let said = lines(child.stdout.take().context("no stdout")?);
        Ok(Self { child, orders, said })
    }

    /// Waits until it knows what each answer is; how many there are.
    pub fn reference(&mut self) -> Result<u64> {
        let said: Value = serde_json::from_str(&self.hear()?)?;
        said["answers"].as_u64().with_context(|| format!("it said {said}"))
    }

    pub fn go(&mut self) -> Result<()> {
        self.orders.as_mut().context("it was ended")?.write_all(b"go\n").context("it does not listen")
    }

    /// Whether it is over before it was told.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Lets each stream end, and takes what was seen.
    pub fn end(mut self) -> Result<Seen> {
        self.orders = None;
        let said = self.hear()?;
        serde_json::from_str(&said).with_context(|| format!("it said {said}"))
    }

    fn hear(&mut self) -> Result<String> {
        let said = self.said.recv_timeout(PATIENCE);
        said.or_else(|_| match self.child.try_wait()? {
            Some(status) => bail!("it ended without a word ({status})"),
            None => Err(anyhow!("it said nothing for {} s", PATIENCE.as_secs())),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended, or we have no time for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
