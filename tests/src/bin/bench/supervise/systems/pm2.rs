//! pm2: its daemon, which its command-line tool starts when it is asked for something.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use rbee_tests::processes;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::scene::Scene;
use super::super::system::{Plan, System, on_path};

pub struct Pm2;

/// Where `cargo xtask bench` has put it, else on PATH.
fn program() -> Option<PathBuf> {
    std::env::var_os("RBEE_BENCH_PM2").map(PathBuf::from).filter(|path| path.is_file()).or_else(|| on_path("pm2"))
}

impl Pm2 {
    fn tool(scene: &Scene, words: &[&str]) -> Command {
        let mut command = Command::new(program().unwrap_or_else(|| "pm2".into()));
        command.env("PM2_HOME", scene.path("pm2")).env("PM2_DISCRETE_MODE", "true").args(words);
        command
    }
}

impl System for Pm2 {
    fn name(&self) -> &'static str {
        "pm2"
    }

    fn missing(&self) -> Option<String> {
        if on_path("node").is_none() {
            return Some("node is not installed".to_owned());
        }
        program().is_none().then(|| "pm2 is not installed (npm install pm2)".to_owned())
    }

    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()> {
        let logs = scene.folder("logs")?;
        scene.folder("pm2")?;
        let apps: Vec<Value> = (0..plan.count)
            .map(|index| {
                let words = plan.words(scene, index);
                json!({
                    "name": format!("w{index}"), "script": words[0], "args": &words[1..], "interpreter": "none",
                    "exec_mode": "fork", "autorestart": true, "restart_delay": 0, "max_restarts": 1_000_000,
                    "kill_timeout": plan.stop_timeout_ms, "out_file": logs.join(format!("{index}.out")),
                    "error_file": logs.join(format!("{index}.err")),
                })
            })
            .collect();
        std::fs::write(scene.path("apps.json"), serde_json::to_vec(&json!({ "apps": apps }))?)?;
        Ok(())
    }

    fn command(&self, scene: &Scene, _plan: &Plan) -> Command {
        let mut command = Self::tool(scene, &["start", "--silent"]);
        command.arg(scene.path("apps.json"));
        command
    }

    fn stop(&self, scene: &mut Scene, _plan: &Plan) -> Result<()> {
        let pid = std::fs::read_to_string(scene.path("pm2/pm2.pid")).context("pm2's daemon has no pid file")?;
        processes::send(pid.trim().parse()?, Signal::TERM);
        Ok(())
    }

    fn status(&self, scene: &Scene, _plan: &Plan) -> Option<Result<usize>> {
        let said = scene.run(&mut Self::tool(scene, &["jlist", "--silent"]));
        Some(said.map(|said| said.matches("\"status\":\"online\"").count()))
    }

    fn log_folder(&self, scene: &Scene, _index: usize) -> PathBuf {
        scene.path("logs")
    }

    fn is_log(&self, name: &str, index: usize) -> bool {
        name == format!("{index}.out")
    }
}
