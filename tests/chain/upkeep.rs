//! Restarts, drains, reloads and unloading under load, with a command that is not ours: it ends at once when it is told to,
//! so whatever it has in flight then is lost. QUEEN-20 to QUEEN-27.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rbee_tests::home::{Home, binary};
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{SLEEPER, down, error_text, pid, up, worker};

const SOON: Duration = Duration::from_secs(60);
/// Tokens each stream has, and how many of them a second.
const TOKENS: i64 = 40;
const PACE: &str = "100/s";

/// A home whose worker `m` is a foreign command that serves model `m`.
fn foreign(keys: &str) -> Home {
    let home = Home::empty();
    let model = home.path().join("m.gguf");
    fs::write(&model, "no model").unwrap();
    home.write_config(&config(&home, keys));
    home
}

fn config(home: &Home, keys: &str) -> String {
    let (model, mock) = (home.path().join("m.gguf"), binary("mock-worker"));
    format!(
        "[model.m]\nsource = \"file:{}\"\n\n[worker.m]\nmodel = \"m\"\nready = \"tcp\"\n\
         command = [\"{}\", \"--listen\", \"127.0.0.1:{{port}}\", \"--model-name\", \"m\"]\n{keys}\n",
        model.display(),
        mock.display()
    )
}

fn client(home: &Home) -> Client {
    Client::new(&home.queen_url(), "m")
}

/// Streams from four clients, one after the other each, for as long as `work` takes; how many there were. Each must be whole.
fn under_load<T>(home: &Home, work: impl FnOnce() -> T) -> (T, usize) {
    let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let streams = || {
            while !over.load(Ordering::Acquire) {
                assert_whole(home, &mut begun(home, PACE));
                count.fetch_add(1, Ordering::AcqRel);
            }
        };
        let streaming: Vec<_> = (0..4).map(|_| scope.spawn(streams)).collect();
        wait::until("answers", SOON, || (count.load(Ordering::Acquire) > 0).then_some(()));
        let done = work();
        over.store(true, Ordering::Release);
        streaming.into_iter().for_each(|thread| thread.join().unwrap());
        (done, count.load(Ordering::Acquire))
    })
}

/// A stream that has begun.
fn begun(home: &Home, pace: &str) -> TcpStream {
    let mut body = client(home).chat_body("x", TOKENS);
    body["stream"] = true.into();
    body["user"] = pace.into();
    let body = body.to_string();
    let mut connection = TcpStream::connect(("127.0.0.1", home.queen_port)).unwrap();
    write!(
        connection,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (mut read, mut buffer) = (String::new(), [0; 512]);
    while !read.contains("\"content\"") {
        let length = connection.read(&mut buffer).unwrap();
        assert!(length > 0, "{read}");
        read += &String::from_utf8_lossy(&buffer[..length]);
    }
    connection
}

/// Reads it to its end, which must be one.
fn assert_whole(home: &Home, stream: &mut TcpStream) {
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("data: [DONE]") && !rest.contains("\"error\""), "{rest}\n{}", home.logs());
}

fn workers(status: &Value) -> &Vec<Value> {
    status["hives"][0]["workers"].as_array().unwrap()
}

/// QUEEN-20 QUEEN-28
#[test]
fn a_rolling_restart_breaks_no_stream_of_a_command_that_ends_at_once() {
    let home = foreign("");
    let before = up(&home);
    let ((reply, code), _) = under_load(&home, || home.json(&["worker", "restart", "m", "--rolling"]));
    assert_eq!((code, &reply["changed"]), (0, &true.into()), "{reply}");
    let after = home.status();
    assert_eq!((workers(&after).len(), &worker(&after)["replica"]), (1, &0.into()), "names end as they began: {after}");
    assert_ne!(pid(worker(&after)), pid(worker(&before)));
    assert_eq!(worker(&after)["incarnation"], 2);
    // Without a stand-in requests wait, and nothing breaks either.
    let ((reply, code), _) = under_load(&home, || home.json(&["worker", "restart", "m"]));
    assert_eq!((code, &reply["workers"][0]["incarnation"]), (0, &3.into()), "{reply}");
    let (refused, code) = home.json(&["worker", "restart", "m/0", "--rolling"]);
    assert!(code != 0 && error_text(&refused).contains("all replicas"), "{refused}");
    down(&home);
}

/// QUEEN-21
#[test]
fn a_rolling_restart_outlives_a_killed_queen() {
    // Slow to be ready, so that there is a middle to be killed in.
    let home = Home::empty();
    fs::write(home.path().join("m.gguf"), "no model").unwrap();
    let slow =
        config(&home, "").replace("command = [", "command = [\"sh\", \"-c\", \"sleep 1; exec \\\"$@\\\"\", \"sh\", ");
    home.write_config(&slow);
    let before = up(&home);
    let token = Client::new(&home.queen_url(), "m").with_token(&home.token());
    let answer = token.post_json("/api/v1/workers/m/restart", &json!({"rolling": true, "wait_ms": 0}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let middle = wait::until("the stand-in", SOON, || Some(home.status()).filter(|status| workers(status).len() == 2));
    processes::crash(pid(&middle["queen"]));
    home.keeper(&["queen", "start"]).assert().success();
    let after = wait::until("the end of it", SOON, || {
        let status = home.status();
        let one = workers(&status).len() == 1 && worker(&status)["phase"] == "running";
        (one && pid(worker(&status)) != pid(worker(&before))).then_some(status)
    });
    assert_eq!((&worker(&after)["replica"], &worker(&after)["incarnation"]), (&0.into(), &2.into()), "{after}");
    down(&home);
}

/// QUEEN-22
#[test]
fn a_drained_hive_gives_no_new_answers_and_finishes_what_it_has() {
    let home = foreign("");
    up(&home);
    thread::scope(|scope| {
        let mut last = begun(&home, "20/s");
        home.keeper(&["hive", "drain", "local"]).assert().success();
        assert_whole(&home, &mut last);
        let in_flight = |status: &Value| worker(status)["phase"] == "draining";
        let status = home.status();
        assert!(in_flight(&status) && status["hives"][0]["phase"] == "draining", "{status}");
        home.keeper(&["status"]).assert().success();
        let waits = scope.spawn(|| client(&home).chat("x", 3));
        wait::until("the request that waits", SOON, || {
            (client(&home).get("/health").body["queue_depth"] == 1).then_some(())
        });
        let (again, code) = home.json(&["hive", "drain", "local"]);
        assert_eq!((code, &again["changed"]), (0, &false.into()), "{again}");
        home.keeper(&["hive", "undrain", "local"]).assert().success();
        waits.join().unwrap().unwrap();
    });
    assert_eq!(worker(&home.status())["phase"], "running");
    home.keeper(&["worker", "drain", "m"]).assert().success();
    assert_eq!(worker(&home.status())["phase"], "draining");
    home.keeper(&["worker", "undrain", "m"]).assert().success();
    assert_eq!(worker(&home.status())["phase"], "running");
    down(&home);
}

/// QUEEN-25
#[test]
fn a_worker_nobody_uses_is_unloaded_and_loaded_by_the_next_request() {
    let home = foreign("idle_ttl = \"300ms\"");
    home.keeper(&["up"]).assert().success();
    let unloaded = |status: &Value| worker(status)["phase"] == "stopped" && worker(status)["unloaded"] == true;
    let asleep = || wait::until("unloaded", SOON, || Some(home.status()).filter(unloaded));
    let status = asleep();
    assert_eq!(
        (&worker(&status)["reason"], &worker(&status)["pid"]),
        (&"unloaded after 300ms idle".into(), &Value::Null)
    );
    // A stream that takes longer than that keeps it loaded.
    assert_whole(&home, &mut begun(&home, "20/s"));
    let status = asleep();
    assert_eq!(worker(&status)["restarts"], 0);
    home.keeper(&["up"]).assert().success();
    let answers: Vec<_> = thread::scope(|scope| {
        let asks: Vec<_> = (0..8).map(|_| scope.spawn(|| client(&home).chat("x", 3))).collect();
        asks.into_iter().map(|ask| ask.join().unwrap()).collect()
    });
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    down(&home);
}

/// QUEEN-26 QUEEN-27
#[test]
fn queen_reloads_by_verb_and_by_signal_and_touches_only_what_changed() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    home.write_config(&format!("{SLEEPER}\n[worker.new]\ncommand = [\"sleep\", \"1001\"]\n"));
    let (reply, code) = home.json(&["queen", "reload"]);
    assert_eq!((code, &reply["added"], &reply["untouched"]), (0, &json!(["new/0"]), &1.into()), "{reply}");
    let status = home.status();
    let named = |status: &Value, name: &str| workers(status).iter().find(|worker| worker["name"] == name).cloned();
    assert_eq!(pid(&named(&status, "sleeper").unwrap()), pid(worker(&before)));
    assert_eq!(named(&status, "new").unwrap()["phase"], "running");

    let log = || fs::read_to_string(home.path().join("state/logs/queen.log")).unwrap();
    home.write_config(&format!("{SLEEPER}replica = 2\n"));
    assert!(processes::send(pid(&before["queen"]), Signal::HUP));
    wait::until("the refusal in the log", SOON, || log().contains("was not reloaded; nothing changed").then_some(()));
    assert!(log().contains("did you mean `replicas`?"), "{}", log());
    let (refused, code) = home.json(&["queen", "reload"]);
    assert!(code == 78 && error_text(&refused).contains("rbee.toml:"), "{refused}");
    let token = Client::new(&home.queen_url(), "m").with_token(&home.token());
    let answer = token.post_json("/api/v1/reload", &json!({}));
    assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &"invalid_config".into()), "{answer:?}");

    home.write_config(SLEEPER);
    assert_eq!(workers(&home.status()).len(), 2, "nothing changed");
    assert!(processes::send(pid(&before["queen"]), Signal::HUP));
    let after =
        wait::until("the end of `new`", SOON, || Some(home.status()).filter(|status| workers(status).len() == 1));
    assert_eq!((pid(worker(&after)), pid(&after["queen"])), (pid(worker(&before)), pid(&before["queen"])));
    down(&home);
}
