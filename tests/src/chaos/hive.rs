//! One hive process of the chaos, from its start to its violent end.

use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::home::{Home, binary};
use crate::processes;

use super::work::TOKEN;

const READY_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(30);
const WORDS_SHOWN: usize = 30;

pub struct Hive {
    child: Child,
    notify: UnixDatagram,
    url: String,
}

impl Hive {
    #[expect(clippy::disallowed_methods, reason = "chaos needs a supervisor it can kill")]
    pub fn start(home: &Home) -> Result<Self> {
        let socket = home.path().join("chaos.sock");
        // The last hive's; what it said late must not count for the next.
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket)?;
        let said = File::options().append(true).create(true).open(home.path().join("hive.said"))?;
        let mut command = Command::new(binary("rbee-hive"));
        command.arg("run").env("RBEE_HOME", home.path()).env("RBEE_TOKEN", TOKEN).env("NOTIFY_SOCKET", &socket);
        for name in ["RBEE_CONFIG", "RBEE_QUEEN", "RBEE_HIVE", "RUST_LOG", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().context("cannot run rbee-hive")?;
        Ok(Self { child, notify, url: format!("http://127.0.0.1:{}", home.hive_port) })
    }

    /// Waits for its READY.
    pub fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut message = [0; 512];
        self.notify.set_read_timeout(Some(Duration::from_millis(200)))?;
        loop {
            match self.notify.recv(&mut message) {
                Ok(length) if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "READY=1") => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(_) => {
                    let ended = self.child.try_wait()?;
                    ensure!(ended.is_none(), "the hive ended before it was ready: {ended:?}");
                    ensure!(Instant::now() < deadline, "the hive was not ready within {} s", READY_WITHIN.as_secs());
                }
            }
        }
    }

    /// Gives an order without waiting for what becomes of it.
    pub fn tell(&self, worker: &str, verb: &str) {
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let asked = agent.post(format!("{}/api/v1/workers/{worker}/{verb}", self.url));
        // Refused or not: it is there to make trouble.
        let _ = asked.header("authorization", format!("Bearer {TOKEN}")).send("{\"wait_ms\":0}");
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(())
    }

    /// A stop in order.
    pub fn stop(mut self) -> Result<()> {
        processes::send(self.child.id(), Signal::TERM);
        processes::wait_gone(self.child.id(), END_WITHIN);
        let status = self.child.wait()?;
        ensure!(status.success(), "the hive's stop: {status}");
        Ok(())
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        // Both fail only for one that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of what all hives of a home said.
pub fn last_words(home: &Home) -> String {
    let text = fs::read_to_string(home.path().join("hive.said")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(WORDS_SHOWN)..].join("\n")
}
