//! rbee-hive alone, run as a user runs it: one file, one command.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use rbee_tests::home::binaries;
use rbee_tests::ports;

use super::super::scene::Scene;
use super::super::system::{Plan, System};

/// Long enough for the hive's own rules.
const TOKEN: &str = "bench-token-0123456789abcdef";

pub struct Rbee {
    port: u16,
    agent: ureq::Agent,
}

impl Rbee {
    pub fn new() -> Self {
        // One connection that stays, as keeper's and any dashboard's does.
        let agent = ureq::Agent::config_builder().proxy(None).build().into();
        Self { port: ports::free(), agent }
    }
}

impl System for Rbee {
    fn name(&self) -> &'static str {
        "rbee"
    }

    fn missing(&self) -> Option<String> {
        let hive = binaries().join("rbee-hive");
        (!hive.is_file()).then(|| format!("{} was not built", hive.display()))
    }

    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()> {
        let home = scene.folder("home")?;
        let mut text = format!("[hive]\nlisten = \"127.0.0.1:{}\"\nports = \"0\"\n", self.port);
        let stop_timeout_ms = plan.stop_timeout_ms;
        for index in 0..plan.count {
            let words = plan.words(scene, index).iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
            write!(
                text,
                "\n[worker.w{index}]\ncommand = [{words}]\nready = \"started\"\nstop_timeout = \"{stop_timeout_ms}ms\"\n\
                 restart = {{ backoff_min = \"0s\", backoff_max = \"0s\", max_restarts = 1000000 }}\n\
                 log = {{ max_size = \"64MiB\", keep = 1000 }}\n"
            )?;
        }
        std::fs::write(home.join("rbee.toml"), text)?;
        Ok(())
    }

    fn command(&self, scene: &Scene, _plan: &Plan) -> Command {
        let mut command = Command::new(binaries().join("rbee-hive"));
        let home = scene.path("home");
        command.arg("run").arg("--config").arg(home.join("rbee.toml")).env("RBEE_HOME", home).env("RBEE_TOKEN", TOKEN);
        for name in ["RBEE_CONFIG", "RBEE_QUEEN", "RBEE_HIVE", "RUST_LOG", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"]
        {
            command.env_remove(name);
        }
        command
    }

    fn status(&self, _scene: &Scene, _plan: &Plan) -> Option<Result<usize>> {
        let ask = || {
            let url = format!("http://127.0.0.1:{}/api/v1/status", self.port);
            let mut answer = self.agent.get(url).header("authorization", format!("Bearer {TOKEN}")).call()?;
            let text = answer.body_mut().with_config().limit(64 << 20).read_to_string()?;
            // Its own words are counted, not parsed: the reader's time is not the supervisor's.
            Ok(text.matches("\"phase\":\"running\"").count().saturating_sub(1))
        };
        Some(ask())
    }

    fn log_folder(&self, scene: &Scene, _index: usize) -> PathBuf {
        scene.path("home/state/logs/workers")
    }

    fn is_log(&self, name: &str, index: usize) -> bool {
        name.starts_with(&format!("w{index}.0."))
    }
}
