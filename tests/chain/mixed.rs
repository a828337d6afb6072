//! A real mixed set from one file, supervised by a hive alone: redis, nginx in the foreground, Python's http.server, a daemon
//! that forks, our engine; each starts after what it needs. The file is edited, and a reload touches only what changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{model, processes, wait};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::alone::Hive;
use crate::pid;

const SOON: Duration = Duration::from_secs(120);

/// A worker of the file: its name, the program it cannot do without, the workers it needs, the rest of its table.
struct Part {
    name: &'static str,
    program: &'static str,
    needs: &'static [&'static str],
    text: String,
}

impl Part {
    fn table(&self, all: &[Self]) -> String {
        // What is not installed here is not needed either.
        let needs: Vec<_> = self.needs.iter().filter(|need| all.iter().any(|part| part.name == **need)).collect();
        format!(
            "[worker.{}]\ndepends_on = {needs:?}\nrestart = {{ backoff_min = \"50ms\" }}\n{}\n",
            self.name, self.text
        )
    }
}

/// Ends what a failed test left: redis and nginx overwrite the environment by which a home knows its processes.
struct Leftovers(std::path::PathBuf);

impl Drop for Leftovers {
    fn drop(&mut self) {
        let files = fs::read_dir(self.0.join("run/workers")).into_iter().flatten().flatten().map(|file| file.path());
        for file in files.filter(|path| path.extension().is_some_and(|end| end == "pid")) {
            let pid = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended already.
                let _ = kill_process_group(pid, Signal::KILL);
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a part that is skipped says so")]
fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = program.is_empty() || std::env::split_paths(&paths).any(|folder| folder.join(program).is_file());
    if !found {
        eprintln!("SKIPPED: the part of the mixed set that needs {program}, which is not installed");
    }
    found
}

fn parts(home: &Home) -> Vec<Part> {
    let folder = home.path().display();
    let part = |name, program, needs, text: String| Part { name, program, needs, text };
    let redis = "\"redis-server\", \"--port\", \"{port}\", \"--save\", \"\", \"--dir\", \"{run_dir}\"";
    let mut parts = vec![
        part(
            "cache",
            "redis-server",
            &[],
            format!("command = [{redis}]\nready = \"tcp\"\nlimits = {{ nofile = 4096, nice = 1 }}"),
        ),
        part(
            "forker",
            "redis-server",
            &["cache"],
            format!(
                "command = [{redis}, \"--daemonize\", \"yes\", \"--pidfile\", \"{{run_dir}}/forker.pid\"]\nforking = true\n\
                 pid_file = \"{{run_dir}}/forker.pid\"\nready = \"tcp\""
            ),
        ),
        part(
            "web",
            "python3",
            &["cache"],
            format!(
                "command = [\"python3\", \"-m\", \"http.server\", \"{{port}}\", \"--bind\", \"127.0.0.1\", \"--directory\", \"{folder}/www\"]\n\
                 ready = \"http:/\"\nstop_signal = \"INT\""
            ),
        ),
        part(
            "front",
            "nginx",
            &["web"],
            format!(
                "command = [\"nginx\", \"-p\", \"{folder}\", \"-e\", \"stderr\", \"-c\", \"{folder}/nginx.conf\"]\nready = \"unix:{folder}/nginx.sock\"\n\
                 stop_signal = \"QUIT\""
            ),
        ),
        part("goes", "", &[], "command = [\"sleep\", \"1000\"]".to_owned()),
        part("grows", "", &["goes"], "command = [\"sleep\", \"1001\"]".to_owned()),
    ];
    if model::file().is_some() {
        parts.push(part("llm", "", &["cache"], "model = \"small\"\nslots = 1\ncontext = 256\nthreads = 1".to_owned()));
    }
    // Nothing is left to need it, when it goes.
    parts[5].needs = &[];
    parts.retain(|part| is_installed(part.program));
    parts
}

fn write_files(home: &Home) {
    fs::create_dir(home.path().join("www")).unwrap();
    let folder = home.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {folder}/nginx-{kind}; "))
        .collect();
    let text = format!(
        "daemon off; worker_processes 1; pid {folder}/nginx.pid; events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temporary}server {{ listen unix:{folder}/nginx.sock; location / {{ return 200 \"front\"; }} }} }}\n"
    );
    fs::write(home.path().join("nginx.conf"), text).unwrap();
}

fn write_config(home: &Home, parts: &[Part]) {
    let model = model::file().map(|file| format!("[model.small]\nsource = \"file:{}\"\n", file.display()));
    let tables: String = parts.iter().map(|part| part.table(parts)).collect();
    let hive = format!("[hive]\nlisten = \"127.0.0.1:{}\"\nports = \"0\"\n\n", home.hive_port);
    fs::write(home.path().join("rbee.toml"), hive + &model.unwrap_or_default() + &tables).unwrap();
}

/// Every worker by name and replica, once all of them run.
fn running(home: &Home, url: &str, count: usize) -> BTreeMap<String, Value> {
    wait::until("all workers", SOON, || {
        let output = home.keeper(&["--hive", url, "worker", "list", "--json"]).output().unwrap();
        let list: Value = serde_json::from_slice(&output.stdout).ok()?;
        let workers = list["workers"].as_array()?.clone();
        let all_run = workers.len() == count && workers.iter().all(|worker| worker["phase"] == "running");
        let name = |worker: &Value| format!("{}/{}", worker["name"].as_str().unwrap(), worker["replica"]);
        all_run.then(|| workers.into_iter().map(|worker| (name(&worker), worker)).collect())
    })
}

fn pids(workers: &BTreeMap<String, Value>) -> BTreeMap<String, u32> {
    workers.iter().map(|(name, worker)| (name.clone(), pid(worker))).collect()
}

fn answers(mut connection: impl Read + Write, question: &str, expected: &str) {
    connection.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    let mut buffer = [0; 512];
    while !answer.contains(expected) {
        let length = connection.read(&mut buffer).unwrap();
        assert!(length > 0, "no {expected:?} in {answer:?}");
        answer += &String::from_utf8_lossy(&buffer[..length]);
    }
}

fn all_answer(home: &Home, workers: &BTreeMap<String, Value>) {
    let connect = |name: &str| {
        let port = workers.get(name)?["port"].as_u64().and_then(|port| u16::try_from(port).ok())?;
        Some(TcpStream::connect(("127.0.0.1", port)).unwrap())
    };
    for (name, question, expected) in [
        ("cache/0", "PING\r\n", "+PONG"),
        ("forker/0", "PING\r\n", "+PONG"),
        ("web/0", "GET / HTTP/1.0\r\n\r\n", "200 OK"),
        ("llm/0", "GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n", "\"healthy\":true"),
    ] {
        if let Some(connection) = connect(name) {
            answers(connection, question, expected);
        }
    }
    if workers.contains_key("front/0") {
        let connection = UnixStream::connect(home.path().join("nginx.sock")).unwrap();
        answers(connection, "GET / HTTP/1.0\r\n\r\n", "front");
    }
}

/// HIVE-11, HIVE-12, HIVE-13, HIVE-14
#[test]
fn a_mixed_set_runs_from_one_file_and_a_reload_touches_only_what_changed() {
    let home = Home::empty();
    write_files(&home);
    let mut parts = parts(&home);
    write_config(&home, &parts);
    let url = format!("http://127.0.0.1:{}", home.hive_port);
    // Dropped after the hive, which is killed first, and would start again what is killed here.
    let _leftovers = Leftovers(home.path().to_owned());
    let mut hive = Hive::run(&home);
    let before = running(&home, &url, parts.len());
    all_answer(&home, &before);

    // One goes, one is new, one grows, one is changed in what needs a new process and one in what does not.
    parts.retain(|part| part.name != "goes");
    let comes = "command = [\"sleep\", \"1002\"]".to_owned();
    parts.push(Part { name: "comes", program: "", needs: &[], text: comes });
    for part in &mut parts {
        match part.name {
            "grows" => part.text += "\nreplicas = 3",
            "front" => part.text += "\nenv = { CHANGED = \"yes\" }",
            "web" => part.text += "\nstop_timeout = \"7s\"",
            _ => {}
        }
    }
    write_config(&home, &parts);
    let reload = ["--hive", url.as_str(), "hive", "reload"];
    let (reply, code) = home.json(&reload);
    assert_eq!(code, 0, "{reply}");
    let of = |key: &str| reply[key].to_string();
    let there = |name: &str| parts.iter().any(|part| part.name == name);
    let named = |name: &str| if there(name) { format!("[\"{name}/0\"]") } else { "[]".to_owned() };
    assert_eq!(of("added"), "[\"comes/0\",\"grows/1\",\"grows/2\"]");
    assert_eq!(of("removed"), "[\"goes/0\"]");
    assert_eq!((of("restarted"), of("updated")), (named("front"), named("web")), "{reply}");
    let after = running(&home, &url, parts.len() + 2);
    let (old, new) = (pids(&before), pids(&after));
    for (name, pid) in &new {
        match name.as_str() {
            "comes/0" | "grows/1" | "grows/2" => {}
            "front/0" => assert_ne!(Some(pid), old.get(name)),
            _ => assert_eq!(Some(pid), old.get(name), "{name}"),
        }
    }
    assert!(!processes::is_alive(old["goes/0"]));
    all_answer(&home, &after);

    // A file that makes no sense changes nothing, over the API and by signal.
    let sound = fs::read_to_string(home.path().join("rbee.toml")).unwrap();
    fs::write(
        home.path().join("rbee.toml"),
        sound.clone() + "[worker.bad]\ncommand = [\"x\"]\ndepends_on = [\"commes\"]\n",
    )
    .unwrap();
    let (reply, code) = home.json(&reload);
    assert_eq!((code, &reply["error"]["code"]), (78, &Value::from("invalid_config")), "{reply}");
    assert!(reply.to_string().contains("did you mean `comes`?"), "{reply}");
    assert!(processes::send(hive.0.id(), Signal::HUP));
    wait::until("the refusal in the log", SOON, || {
        let log = fs::read_to_string(home.path().join("hive.err")).unwrap();
        // Once for the API, once for the signal.
        (log.matches("the configuration was not reloaded").count() == 2).then_some(())
    });
    // keeper reads the same file.
    fs::write(home.path().join("rbee.toml"), sound).unwrap();
    assert_eq!(pids(&running(&home, &url, parts.len() + 2)), new);

    assert!(processes::send(hive.0.id(), Signal::TERM));
    assert_eq!(hive.0.wait().unwrap().code(), Some(0));
    for (name, pid) in new {
        assert!(!processes::is_alive(pid), "{name} is left");
    }
    assert_eq!(home.run_files(), Vec::<String>::new());
}
