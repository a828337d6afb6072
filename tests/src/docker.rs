//! A real container engine of a test's own: started in a temporary folder, with one tiny image, and gone with it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{processes, wait};

/// The image that every engine of a test has: busybox and nothing else.
pub const IMAGE: &str = "probe:1";
/// The engine's own start and end.
const ENGINE_WAIT: Duration = Duration::from_secs(30);
/// Any one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// A running engine.
pub struct Docker {
    folder: TempDir,
    engine: Child,
    bridge: Option<String>,
}

impl Docker {
    /// Starts one. `None` where this machine cannot, and said why.
    pub fn begin() -> Option<Self> {
        match Self::try_begin() {
            Ok(docker) => Some(docker),
            Err(reason) => {
                #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
                {
                    eprintln!("SKIPPED: no container engine for a test: {reason}");
                }
                None
            }
        }
    }

    fn try_begin() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it needs root".to_owned());
        }
        if on_path("dockerd").is_none() {
            return Err("dockerd is not installed (Debian: apt-get install docker.io)".to_owned());
        }
        let busybox = on_path("busybox").filter(|file| is_static(file));
        let busybox = busybox.ok_or("no static busybox is installed (Debian: apt-get install busybox-static)")?;
        let folder = TempDir::with_prefix("rbee-docker-").map_err(|error| error.to_string())?;
        let bridge = make_bridge();
        let engine = start(folder.path(), bridge.as_deref())?;
        let mut docker = Self { folder, engine, bridge };
        docker.await_answer()?;
        docker.import(&busybox)?;
        Ok(docker)
    }

    /// Waits until it answers; an engine that ended instead says why in its log.
    fn await_answer(&mut self) -> Result<(), String> {
        let until = Instant::now() + ENGINE_WAIT;
        while self.try_call("GET", "/_ping", &[]).is_none() {
            let has_ended = self.engine.try_wait().map_err(|error| error.to_string())?.is_some();
            if has_ended || Instant::now() > until {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("dockerd does not run here: {}", log.lines().last().unwrap_or("it said nothing")));
            }
            pause();
        }
        Ok(())
    }

    fn import(&self, busybox: &Path) -> Result<(), String> {
        let root = self.folder.path().join("image");
        for folder in ["bin", "tmp", "proc"] {
            fs::create_dir_all(root.join(folder)).map_err(|error| error.to_string())?;
        }
        fs::copy(busybox, root.join("bin/busybox")).map_err(|error| error.to_string())?;
        for name in ["sh", "sleep", "echo", "cat", "httpd", "id", "pwd", "ls", "touch", "head", "tail", "seq"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).map_err(|error| error.to_string())?;
        }
        let (status, answer) = self
            .try_call("POST", "/images/create?fromSrc=-&repo=probe&tag=1", &self.packed()?)
            .ok_or("the engine takes no image")?;
        if status == 200 { Ok(()) } else { Err(format!("the engine takes no image: {answer}")) }
    }

    fn packed(&self) -> Result<Vec<u8>, String> {
        Ok(run("tar", &["-C", &self.folder.path().join("image").to_string_lossy(), "-c", "."])?.stdout)
    }

    /// The files of [`IMAGE`], as the layer of another image.
    pub fn layer(&self) -> Vec<u8> {
        self.packed().unwrap()
    }

    /// Its address, as `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("d.sock")
    }

    /// Whether ports of containers can be reached from outside.
    pub fn has_network(&self) -> bool {
        self.bridge.is_some()
    }

    /// All containers, ended ones too.
    pub fn containers(&self) -> Vec<Value> {
        let (status, answer) = self.call("GET", "/containers/json?all=true");
        assert_eq!(status, 200, "{answer}");
        answer.as_array().unwrap().clone()
    }

    /// The id of the only container.
    pub fn only_id(&self) -> String {
        let containers = self.containers();
        assert_eq!(containers.len(), 1, "{containers:?}");
        containers[0]["Id"].as_str().unwrap().to_owned()
    }

    /// What the engine knows of one.
    pub fn inspect(&self, id: &str) -> Value {
        self.call("GET", &format!("/containers/{id}/json")).1
    }

    /// A request without a body, and its answer.
    ///
    /// # Panics
    /// When there is none.
    pub fn call(&self, verb: &str, path: &str) -> (u16, Value) {
        self.try_call(verb, path, &[]).unwrap_or_else(|| panic!("no answer to {verb} {path}"))
    }

    /// The same with a JSON body.
    ///
    /// # Panics
    /// When there is none.
    pub fn send(&self, verb: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        self.try_call(verb, path, body.as_bytes()).unwrap_or_else(|| panic!("no answer to {verb} {path}"))
    }

    fn try_call(&self, verb: &str, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).ok()?;
        let kind = if body.first() == Some(&b'{') { "application/json" } else { "application/x-tar" };
        let head = format!(
            "{verb} {path} HTTP/1.0\r\nHost: engine\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body.trim()).unwrap_or_else(|_| Value::from(body))))
    }

    /// Ends the engine in order, as a service manager does, and starts it again.
    pub fn restart(&mut self) {
        self.stop();
        self.engine = start(self.folder.path(), self.bridge.as_deref()).unwrap();
        self.await_answer().unwrap();
    }

    /// Ends the engine in order; its containers end with it.
    pub fn stop(&mut self) {
        processes::send(self.engine.id(), Signal::TERM);
        wait::until("the engine's end", ENGINE_WAIT, || self.engine.try_wait().unwrap());
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // In whatever state the test was left: first the containers, whose processes are none of the engine's.
        if self.engine.try_wait().ok().flatten().is_none() {
            let (_, containers) = self.try_call("GET", "/containers/json?all=true", &[]).unwrap_or_default();
            for container in containers.as_array().into_iter().flatten() {
                let id = container["Id"].as_str().unwrap_or_default();
                self.try_call("DELETE", &format!("/containers/{id}?force=true&v=true"), &[]);
            }
            processes::send(self.engine.id(), Signal::TERM);
            let until = Instant::now() + ENGINE_WAIT;
            while self.engine.try_wait().ok().flatten().is_none() && Instant::now() < until {
                pause();
            }
            let _ = self.engine.kill();
            let _ = self.engine.wait();
        }
        // What an engine that was killed left mounted would keep its folder.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.folder.path().to_string_lossy().into_owned();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&own)) {
            let _ = run("umount", &["-l", mount]);
        }
        if let Some(bridge) = &self.bridge {
            let _ = run("ip", &["link", "del", bridge]);
        }
    }
}

fn start(folder: &Path, bridge: Option<&str>) -> Result<Child, String> {
    let of = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
    let mut engine = Command::new("dockerd");
    engine
        .args(["--data-root", &of("data"), "--exec-root", &of("exec"), "--pidfile", &of("pid")])
        .args(["--host", &format!("unix://{}", of("d.sock")), "--bridge", bridge.unwrap_or("none")])
        .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
        .args(["--oom-score-adjust=0", "--shutdown-timeout=5"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    #[expect(clippy::disallowed_methods, reason = "an engine of the test's own")]
    engine.spawn().map_err(|error| error.to_string())
}

/// A bridge of its own, so that the machine's engine, if it has one, keeps its.
fn make_bridge() -> Option<String> {
    let number = std::process::id() % 60_000;
    let (name, address) = (format!("rbee{number}"), format!("10.{}.{}.1/24", 200 + number / 256 % 50, number % 256));
    run("ip", &["link", "add", &name, "type", "bridge"]).ok()?;
    let made =
        run("ip", &["addr", "add", &address, "dev", &name]).and_then(|_| run("ip", &["link", "set", &name, "up"]));
    match made {
        Ok(_) => Some(name),
        Err(_) => {
            let _ = run("ip", &["link", "del", &name]);
            None
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<Output, String> {
    #[expect(clippy::disallowed_methods, reason = "tools of the machine that prepare the engine")]
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output) } else { Err(format!("{program}: {said}")) }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let with_sbin = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/sbin".into()]);
    with_sbin.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Between two looks.
fn pause() {
    #[expect(clippy::disallowed_methods, reason = "an engine tells nobody that it has started or ended")]
    std::thread::sleep(Duration::from_millis(50));
}

/// Whether it needs no loader, which the image would not have.
fn is_static(file: &Path) -> bool {
    let mut start = [0; 4096];
    let read = fs::File::open(file).and_then(|mut file| file.read(&mut start)).unwrap_or(0);
    !start[..read].windows(3).any(|text| text == b"/ld")
}
