//! s6: one s6-svscan over a folder of services, each with a logger, as its documentation has it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::super::scene::Scene;
use super::super::system::{Plan, System, missing};

pub struct S6;

impl System for S6 {
    fn name(&self) -> &'static str {
        "s6"
    }

    fn missing(&self) -> Option<String> {
        missing(&["s6-svscan", "s6-supervise", "s6-log", "s6-svstat"])
    }

    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()> {
        for index in 0..plan.count {
            let service = scene.folder(&format!("scan/{index}"))?;
            let logger = scene.folder(&format!("scan/{index}/log"))?;
            let logs = scene.folder(&format!("logs/{index}"))?;
            // Nothing but an exec in it: the least a run script can cost.
            script(&service.join("run"), &format!("exec {}", plan.words(scene, index).join(" ")))?;
            fs::write(service.join("timeout-kill"), plan.stop_timeout_ms.to_string())?;
            script(&logger.join("run"), &format!("exec s6-log -b t n1000 s16777215 {}", logs.display()))?;
        }
        Ok(())
    }

    fn command(&self, scene: &Scene, plan: &Plan) -> Command {
        let mut command = Command::new("s6-svscan");
        command.arg("-c").arg((plan.count * 2 + 2).to_string()).arg(scene.path("scan"));
        command
    }

    fn status(&self, scene: &Scene, plan: &Plan) -> Option<Result<usize>> {
        // It has no question for all at once.
        let mut up = 0;
        for index in 0..plan.count {
            match scene.run(Command::new("s6-svstat").args(["-o", "up"]).arg(scene.path(&format!("scan/{index}")))) {
                Ok(said) => up += usize::from(said.trim() == "true"),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(up))
    }

    fn log_folder(&self, scene: &Scene, index: usize) -> PathBuf {
        scene.path(&format!("logs/{index}"))
    }

    fn is_log(&self, name: &str, _index: usize) -> bool {
        name == "current" || name.starts_with('@')
    }
}

/// A run script of s6 or runit.
pub fn script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
