//! What a scenario looks at: the tree of one chain, its pids, its answers.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rbee_tests::home::Home;
use rbee_tests::openai::Client;
use rbee_tests::{model, wait};
use serde_json::Value;

use crate::BACK_WITHIN;

/// The rest of the configuration: the model as a file, one worker.
pub fn config(model_file: &Path) -> String {
    let (name, sha256, file) = (model::NAME, model::SHA256, model_file.display());
    format!(
        "[model.{name}]\nsource = \"file:{file}\"\nsha256 = \"{sha256}\"\n\n[worker.{name}]\nmodel = \"{name}\"\nslots = 4\ncontext = 1024\n"
    )
}

/// One chain.
pub struct Chain<'h> {
    pub home: &'h Home,
}

/// Who runs, and which run of it that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    pub queen: u32,
    pub hive: u32,
    pub worker: u32,
    pub incarnation: u64,
    pub worker_port: u16,
}

impl<'h> Chain<'h> {
    pub fn new(home: &'h Home) -> Self {
        Self { home }
    }

    /// The pids of a tree in which all is running.
    pub fn pids(&self) -> Result<Pids> {
        let status = self.home.status();
        pids_of(&status).with_context(|| format!("not all is running: {status}"))
    }

    /// Waits until all is running and `good` says so.
    pub fn wait_for(&self, what: &str, good: impl Fn(&Pids) -> bool) -> Pids {
        wait::until(what, BACK_WITHIN, || pids_of(&self.home.status()).filter(|pids| good(pids)))
    }

    /// Waits until every replica runs, however many there are.
    pub fn settled(&self) {
        wait::until("every replica to run", BACK_WITHIN, || {
            let status = self.home.status();
            let workers = status["hives"][0]["workers"].as_array()?;
            workers.iter().all(|worker| worker["phase"] == "running").then_some(())
        });
    }

    /// keeper's words must succeed.
    pub fn keeper(&self, words: &[&str]) -> Result<String> {
        let output = self.home.keeper(words).output()?;
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "rbee-keeper {} ({}): {stdout} {stderr}", words.join(" "), output.status);
        Ok(stdout.into_owned())
    }

    /// The worker itself, without queen between.
    pub fn direct(&self, pids: &Pids) -> Client {
        Client::new(&format!("http://127.0.0.1:{}", pids.worker_port), model::NAME).with_token(&self.home.token())
    }

    /// An answer through queen.
    pub fn ask(&self) -> Result<String> {
        self.home.client().chat("What is the capital of France?", 16).map_err(|error| anyhow::anyhow!(error))
    }
}

fn pids_of(status: &Value) -> Option<Pids> {
    let hive = &status["hives"][0];
    let worker = &hive["workers"][0];
    let all_run = [&status["queen"], hive, worker].iter().all(|tier| tier["phase"] == "running");
    let pid = |tier: &Value| tier["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    all_run.then_some(Pids {
        queen: pid(&status["queen"])?,
        hive: pid(hive)?,
        worker: pid(worker)?,
        incarnation: worker["incarnation"].as_u64()?,
        worker_port: u16::try_from(worker["port"].as_u64()?).ok()?,
    })
}
