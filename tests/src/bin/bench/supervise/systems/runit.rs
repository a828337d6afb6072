//! runit: one runsvdir over a folder of services, each with svlogd.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use rbee_tests::processes;
use rustix::process::Signal;

use super::super::scene::Scene;
use super::super::system::{Plan, System, missing};
use super::s6::script;

pub struct Runit;

impl System for Runit {
    fn name(&self) -> &'static str {
        "runit"
    }

    fn missing(&self) -> Option<String> {
        missing(&["runsvdir", "runsv", "svlogd", "sv"])
    }

    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()> {
        for index in 0..plan.count {
            let service = scene.folder(&format!("scan/{index}"))?;
            let logger = scene.folder(&format!("scan/{index}/log"))?;
            let logs = scene.folder(&format!("logs/{index}"))?;
            script(&service.join("run"), &format!("exec {}", plan.words(scene, index).join(" ")))?;
            script(&logger.join("run"), &format!("exec svlogd -ttt {}", logs.display()))?;
            fs::write(logs.join("config"), "s16777215\nn0\n")?;
        }
        Ok(())
    }

    fn command(&self, scene: &Scene, _plan: &Plan) -> Command {
        let mut command = Command::new("runsvdir");
        command.arg(scene.path("scan"));
        command
    }

    fn stop(&self, scene: &mut Scene, plan: &Plan) -> Result<()> {
        // runsvdir first, or it would start runsv anew; it tells no runsv by itself.
        processes::send(scene.first()?, Signal::TERM);
        let seconds = plan.stop_timeout_ms.div_ceil(1000).to_string();
        let mut stop = Command::new("sv");
        stop.args(["-w", &seconds, "force-shutdown"]);
        stop.args((0..plan.count).map(|index| scene.path(&format!("scan/{index}"))));
        scene.start(&mut stop)
    }

    fn status(&self, scene: &Scene, plan: &Plan) -> Option<Result<usize>> {
        let mut ask = Command::new("sv");
        ask.arg("status").args((0..plan.count).map(|index| scene.path(&format!("scan/{index}"))));
        Some(scene.run(&mut ask).map(|said| said.lines().filter(|line| line.starts_with("run: ")).count()))
    }

    fn log_folder(&self, scene: &Scene, index: usize) -> PathBuf {
        scene.path(&format!("logs/{index}"))
    }

    fn is_log(&self, name: &str, _index: usize) -> bool {
        name == "current" || name.starts_with('@')
    }
}
