//! A real daemon that is not ours: Debian's redis-server, ready by tcp, on the port it is given. HIVE-10.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use serde_json::Value;

use crate::{down, pid, up, worker};

const CONFIG: &str = "[worker.cache]\ncommand = [\"redis-server\", \"--port\", \"{port}\", \"--save\", \"\", \"--dir\", \"{run_dir}\"]\n\
    ready = \"tcp\"\nrestart = { backoff_min = \"1s\" }\n";

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn redis_is_missing() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let missing = !std::env::split_paths(&paths).any(|folder| folder.join("redis-server").is_file());
    if missing {
        eprintln!("SKIPPED: redis-server is not installed (Debian: apt-get install redis-server)");
    }
    missing
}

fn ping(worker: &Value) -> String {
    let port = worker["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    connection.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn redis_answers_at_its_port_is_restarted_and_stopped() {
    if redis_is_missing() {
        return;
    }
    let home = Home::with_config(CONFIG);
    let before = up(&home);
    assert_eq!(ping(worker(&before)), "+PONG\r\n");
    processes::crash(pid(worker(&before)));
    let after = wait::until("a new incarnation", Duration::from_secs(60), || {
        let status = home.status();
        let worker = worker(&status);
        (worker["phase"] == "running" && worker["incarnation"].as_u64() > Some(1)).then_some(status.clone())
    });
    assert_eq!(worker(&after)["port"], worker(&before)["port"], "the port stays with its replica");
    assert_eq!(ping(worker(&after)), "+PONG\r\n");
    let (logs, code) = home.json(&["worker", "logs", "cache"]);
    assert_eq!(code, 0, "{logs}");
    assert!(logs.to_string().contains("Ready to accept connections"), "{logs}");
    down(&home);
}
