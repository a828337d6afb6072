//! supervisord: one file, asked by its own XML-RPC without the start of its command-line tool.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use rbee_tests::ports;

use super::super::scene::Scene;
use super::super::system::{Plan, System, missing};

const QUESTION: &str =
    "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.getAllProcessInfo</methodName><params/></methodCall>";

pub struct Supervisord {
    port: u16,
    agent: ureq::Agent,
}

impl Supervisord {
    pub fn new() -> Self {
        let agent = ureq::Agent::config_builder().proxy(None).build().into();
        Self { port: ports::free(), agent }
    }
}

impl System for Supervisord {
    fn name(&self) -> &'static str {
        "supervisord"
    }

    fn missing(&self) -> Option<String> {
        missing(&["supervisord"])
    }

    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()> {
        let logs = scene.folder("logs")?;
        let mut text = format!(
            "[supervisord]\nnodaemon = true\nlogfile = {log}\nlogfile_maxbytes = 0\nloglevel = warn\npidfile = {pid}\n\
             minfds = 8192\n\n[inet_http_server]\nport = 127.0.0.1:{port}\n\n[rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n",
            log = scene.path("supervisord.log").display(),
            pid = scene.path("supervisord.pid").display(),
            port = self.port,
        );
        let seconds = plan.stop_timeout_ms.div_ceil(1000);
        for index in 0..plan.count {
            let command = plan.words(scene, index).join(" ");
            let logs = logs.display();
            write!(
                text,
                "\n[program:w{index}]\ncommand = {command}\nautorestart = true\nstartsecs = 0\nstopwaitsecs = {seconds}\n\
                 stdout_logfile = {logs}/{index}.out\nstdout_logfile_maxbytes = 0\nstderr_logfile = {logs}/{index}.err\n\
                 stderr_logfile_maxbytes = 0\n"
            )?;
        }
        std::fs::write(scene.path("supervisord.conf"), text)?;
        Ok(())
    }

    fn command(&self, scene: &Scene, _plan: &Plan) -> Command {
        let mut command = Command::new("supervisord");
        command.arg("-c").arg(scene.path("supervisord.conf"));
        command
    }

    fn status(&self, _scene: &Scene, _plan: &Plan) -> Option<Result<usize>> {
        let ask = || {
            let url = format!("http://127.0.0.1:{}/RPC2", self.port);
            let mut answer = self.agent.post(url).header("content-type", "text/xml").send(QUESTION)?;
            let text = answer.body_mut().with_config().limit(64 << 20).read_to_string()?;
            Ok(text.matches("<string>RUNNING</string>").count())
        };
        Some(ask())
    }

    fn log_folder(&self, scene: &Scene, _index: usize) -> PathBuf {
        scene.path("logs")
    }

    fn is_log(&self, name: &str, index: usize) -> bool {
        name == format!("{index}.out")
    }
}
