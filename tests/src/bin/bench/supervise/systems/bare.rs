//! The bare loop as a system: this program itself, called with another word.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::super::scene::Scene;
use super::super::system::{Plan, System};

pub struct Bare;

impl System for Bare {
    fn name(&self) -> &'static str {
        super::BARE
    }

    fn prepare(&self, _scene: &Scene, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    fn command(&self, scene: &Scene, plan: &Plan) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let log = if plan.capture { scene.path("0.log") } else { PathBuf::from("-") };
        command.arg("bare").args([&scene.child, &scene.ear.path]);
        command.args([plan.count.to_string(), plan.stop_timeout_ms.to_string()]).arg(log).args(&plan.mode);
        command
    }

    fn log_folder(&self, scene: &Scene, _index: usize) -> PathBuf {
        scene.path("")
    }

    fn is_log(&self, name: &str, index: usize) -> bool {
        index == 0 && name == "0.log"
    }
}
