//! A hive without queen, over its API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::http::StatusCode;
use futures_util::StreamExt;
use rbee_api::{ErrorCode, LogQuery, Phase, ScaleRequest, ShutdownRequest, Verb};

use crate::support::{Home, TOKEN, api_error, gone, is_alive};

const SLEEPER: &str = "[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\n";

/// A shell script as a worker that is not restarted.
fn script(name: &str, ready: &str, text: &str) -> String {
    format!(
        "[worker.{name}]\ncommand = [\"sh\", \"-c\", '''{text}''']\nready = \"{ready}\"\nstart_timeout = \"500ms\"\n\
         restart = {{ policy = \"never\" }}\n"
    )
}

/// HIVE-05
#[tokio::test]
async fn verbs_do_what_they_say_and_leave_nothing() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    let first = hive.in_phase("sleeper", 0, Phase::Running).await;
    let pid = first.pid.unwrap();
    assert!(is_alive(pid) && first.incarnation == 1 && first.rss_bytes > 0, "{first:?}");
    assert!(!hive.verb("sleeper", Verb::Start).await.unwrap().changed, "it runs already");

    let restarted = hive.verb("sleeper", Verb::Restart).await.unwrap();
    assert!(restarted.changed);
    let second = &restarted.workers[0].worker;
    assert_eq!((second.phase, second.incarnation, second.restart_generation), (Phase::Running, 2, 1));
    assert_ne!(second.pid, Some(pid));
    gone(pid).await;

    let pid = second.pid.unwrap();
    let stopped = hive.verb("sleeper/0", Verb::Stop).await.unwrap();
    assert_eq!((stopped.changed, stopped.workers[0].worker.phase), (true, Phase::Stopped));
    assert!(!is_alive(pid));
    assert!(!hive.verb("sleeper", Verb::Stop).await.unwrap().changed);

    let started = hive.verb("sleeper", Verb::Start).await.unwrap();
    assert_eq!((started.changed, started.workers[0].worker.phase), (true, Phase::Running));
    let pid = started.workers[0].worker.pid.unwrap();
    let killed = hive.verb("sleeper", Verb::Kill).await.unwrap();
    assert_eq!((killed.changed, killed.workers[0].worker.phase), (true, Phase::Stopped));
    gone(pid).await;

    hive.stop().await;
}

/// HIVE-09
#[tokio::test]
async fn a_stop_of_the_hive_cascades_and_leaves_no_process_and_no_file() {
    let home = Home::new(&format!("{SLEEPER}replicas = 3\n"));
    let hive = home.start().await;
    let mut pids = Vec::new();
    for replica in 0..3 {
        pids.push(hive.in_phase("sleeper", replica, Phase::Running).await.pid.unwrap());
    }
    hive.stop().await;
    for pid in pids {
        assert!(!is_alive(pid));
    }
    assert_eq!(home.run_files(), [""; 0]);
}

#[tokio::test]
async fn a_crash_is_followed_by_a_new_run() {
    let home = Home::new(&format!("{SLEEPER}restart = {{ backoff_min = \"10ms\" }}\n"));
    let hive = home.start().await;
    let pid = hive.in_phase("sleeper", 0, Phase::Running).await.pid.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    gone(pid).await;
    let next = crate::support::eventually(|| async {
        let worker = hive.worker("sleeper", 0).await.unwrap();
        if worker.phase == Phase::Running && worker.incarnation == 2 { Ok(worker) } else { Err(worker) }
    })
    .await;
    assert_eq!(next.restarts, 1);
    assert_ne!(next.pid, Some(pid));
    hive.stop().await;
}

#[tokio::test]
async fn failures_are_told_with_reason_and_last_lines() {
    let silent = script("silent", "tcp", "echo warming up; exec sleep 1000");
    let crash = script("crash", "tcp", "echo about to fail >&2; exit 3");
    let missing = "[worker.missing]\ncommand = [\"no-such-program-of-rbee\"]\n";
    let home = Home::new(&format!("{silent}{crash}{missing}"));
    let hive = home.start().await;
    for (worker, phase, says) in [
        ("silent", Phase::Failed, ["not ready within 0.5 s", "warming up"]),
        ("crash", Phase::Failed, ["exit code 3", "about to fail"]),
        ("missing", Phase::Unavailable, ["no-such-program-of-rbee", "looked in"]),
    ] {
        let seen = hive.in_phase(worker, 0, phase).await;
        assert!(seen.reason.is_some(), "{seen:?}");
        let error = hive.verb(worker, Verb::Start).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkerFailed, "{error:?}");
        for part in says {
            assert!(error.message.contains(part), "{part} is not in: {}", error.message);
        }
        assert_eq!(hive.worker(worker, 0).await.unwrap().phase, phase);
    }
    hive.stop().await;
}

/// HIVE-07
#[tokio::test]
async fn what_a_worker_lacks_is_named() {
    let home = Home::new("");
    let file = home.path().join("model.gguf");
    std::fs::write(&file, "no model").unwrap();
    home.configure(&format!(
        "[model.here]\nsource = \"file:{file}\"\n\
         [model.wrong]\nsource = \"file:{file}\"\nsha256 = \"{zeros}\"\n\
         [model.nowhere]\nsource = \"file:/no/such/model.gguf\"\n\
         [worker.engine]\nmodel = \"here\"\n\
         [worker.wrong]\nmodel = \"wrong\"\n\
         [worker.nowhere]\nmodel = \"nowhere\"\n\
         [worker.other]\nmodel = \"here\"\ncommand = [\"tail\", \"-f\", \"{{model_path}}\"]\nready = \"started\"\n",
        file = file.display(),
        zeros = "0".repeat(64),
    ));
    let hive = home.start().await;
    for (worker, says) in
        [("engine", "llm-worker-rbee was not found"), ("wrong", "sha256"), ("nowhere", "/no/such/model.gguf")]
    {
        let seen = hive.in_phase(worker, 0, Phase::Unavailable).await;
        assert!(seen.reason.as_deref().is_some_and(|reason| reason.contains(says)), "{seen:?}");
        let error = hive.verb(worker, Verb::Start).await.unwrap_err();
        assert!(error.code == ErrorCode::WorkerFailed && error.message.contains(says), "{error:?}");
    }
    let other = hive.in_phase("other", 0, Phase::Running).await;
    assert_eq!(other.model.as_deref(), Some("here"));
    assert!(other.port.is_some() && !other.own_engine);
    hive.stop().await;
    assert!(file.exists(), "a file of the user's is never removed");
}

#[tokio::test]
async fn a_pull_that_fails_by_the_servers_fault_is_tried_again_by_itself() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let model = axum::routing::get(move || async move {
        match counter.fetch_add(1, Ordering::SeqCst) {
            0 => (StatusCode::SERVICE_UNAVAILABLE, ""),
            _ => (StatusCode::OK, "a model"),
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/m.gguf", model)).await });
    let home = Home::new(&format!(
        "[model.m]\nsource = \"http://{address}/m.gguf\"\n\
         [worker.w]\nmodel = \"m\"\ncommand = [\"tail\", \"-f\", \"{{model_path}}\"]\nready = \"started\"\n"
    ));
    let hive = home.start().await;
    let waiting = hive.in_phase("w", 0, Phase::Unavailable).await;
    assert!(waiting.reason.as_deref().is_some_and(|reason| reason.contains("503")), "{waiting:?}");
    let running = hive.in_phase("w", 0, Phase::Running).await;
    assert_eq!((running.reason, asked.load(Ordering::SeqCst)), (None, 2));
    hive.stop().await;
    server.abort();
}

/// HIVE-04
#[tokio::test]
async fn a_port_is_free_and_kept_and_none_left_is_an_error() {
    let web = "[worker.web]\ncommand = [\"python3\", \"-m\", \"http.server\", \"{port}\", \"--bind\", \"127.0.0.1\"]\n\
               ready = \"http:/\"\nstart_timeout = \"60s\"\n";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let home = Home::new("");
    home.configure_hive(&format!("ports = \"{port}\""), web);
    let hive = home.start().await;
    let blocked = hive.in_phase("web", 0, Phase::Failed).await;
    assert!(blocked.reason.as_deref().is_some_and(|reason| reason.contains(&port.to_string())), "{blocked:?}");
    drop(taken);
    let reply = hive.verb("web", Verb::Start).await.unwrap();
    assert_eq!((reply.workers[0].worker.phase, reply.workers[0].worker.port), (Phase::Running, Some(port)));
    let again = hive.verb("web", Verb::Restart).await.unwrap();
    assert_eq!((again.workers[0].worker.incarnation, again.workers[0].worker.port), (2, Some(port)));
    hive.stop().await;
}

#[tokio::test]
async fn scale_adds_and_removes_replicas() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    let first = hive.in_phase("sleeper", 0, Phase::Running).await.pid.unwrap();
    let scale = |replicas| ScaleRequest { replicas, wait_ms: 30_000 };
    let up = hive.client.scale("sleeper", &scale(3)).await.unwrap();
    assert!(up.changed && up.workers.len() == 3 && up.workers.iter().all(|w| w.worker.phase == Phase::Running));
    let last = up.workers[2].worker.pid.unwrap();
    let down = hive.client.scale("sleeper", &scale(1)).await.unwrap();
    assert_eq!((down.changed, down.workers.len()), (true, 1));
    assert!(is_alive(first) && !is_alive(last));
    assert!(hive.worker("sleeper", 2).await.is_none());
    let none = hive.client.scale("sleeper", &scale(0)).await.unwrap();
    assert!(none.changed && !is_alive(first));
    assert!(hive.client.scale("sleeper", &scale(1)).await.unwrap().workers[0].worker.pid.is_some());
    hive.stop().await;
}

#[tokio::test]
async fn logs_are_read_and_followed() {
    let home = Home::new(&script(
        "talker",
        "started",
        "echo one; echo two >&2; read line < {run_dir}/go; echo three; exec sleep 1000",
    ));
    std::fs::create_dir_all(home.files_of_workers()).unwrap();
    let go = home.files_of_workers().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let hive = home.start().await;
    hive.in_phase("talker", 0, Phase::Running).await;
    let query = LogQuery { follow: true, ..LogQuery::default() };
    let mut follow = Box::pin(hive.client.worker_logs("talker", &query).await.unwrap());
    let mut seen = String::new();
    let mut told = false;
    while !seen.contains("out three") {
        seen.push_str(std::str::from_utf8(&follow.next().await.unwrap().unwrap()).unwrap());
        if !told && seen.contains("out one") && seen.contains("err two") {
            std::fs::write(&go, "now\n").unwrap();
            told = true;
        }
    }
    let query = LogQuery { lines: 1, ..LogQuery::default() };
    let mut last = Box::pin(hive.client.worker_logs("talker", &query).await.unwrap());
    let last = String::from_utf8(last.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(last.ends_with(" out three\n") && last.lines().count() == 1, "{last}");
    hive.stop().await;
    while follow.next().await.is_some() {}
    assert!(!go.exists(), "a stop leaves nothing of the workers");
}

#[tokio::test]
async fn bad_requests_have_their_codes() {
    let home = Home::new(SLEEPER);
    let hive = home.start().await;
    let url = hive.client.base_url().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, body, token, status, code) in [
        ("/api/v1/workers/nobody/start", "", TOKEN, 404, "worker_not_found"),
        ("/api/v1/workers/sleeper/start?replica=7", "", TOKEN, 404, "worker_not_found"),
        ("/api/v1/workers/sleeper/start?hive=other", "", TOKEN, 404, "hive_not_found"),
        ("/api/v1/workers/sleeper/start?replica=x", "", TOKEN, 400, "invalid_parameter"),
        ("/api/v1/workers/sleeper/fly", "", TOKEN, 404, "not_found"),
        ("/api/v1/workers/sleeper/stop", "{", TOKEN, 400, "invalid_request"),
        ("/api/v1/workers/sleeper/stop", "{\"nwo\": true}", TOKEN, 400, "invalid_request"),
        ("/api/v1/workers/sleeper/scale", "", TOKEN, 400, "invalid_request"),
        ("/api/v1/workers/sleeper/scale", "{\"replicas\": 1000000}", TOKEN, 400, "invalid_parameter"),
        ("/api/v1/workers/sleeper/scale", "{\"replicas\": -1}", TOKEN, 400, "invalid_request"),
        ("/api/v1/workers/sleeper/start", "", "another-token-0123456789", 401, "unauthorized"),
        ("/nothing/here", "", TOKEN, 404, "not_found"),
    ] {
        let answer = http.post(format!("{url}{path}")).bearer_auth(token).body(body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        assert!(answer.headers().contains_key("x-correlation-id"));
        let answer: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(answer["error"]["code"], code, "{path} {body}");
    }
    let health = http.get(format!("{url}/health")).send().await.unwrap();
    assert!(health.status().is_success());
    assert_eq!(http.get(format!("{url}/metrics")).send().await.unwrap().status().as_u16(), 401);
    let metrics = http.get(format!("{url}/metrics")).bearer_auth(TOKEN).send().await.unwrap();
    assert!(metrics.text().await.unwrap().contains("rbee_hive_worker_up{worker=\"sleeper\",replica=\"0\"}"));
    let query = LogQuery { replica: Some(9), ..LogQuery::default() };
    let Err(error) = hive.client.worker_logs("sleeper", &query).await else { panic!("replica 9 has logs") };
    assert_eq!(api_error(error).code, ErrorCode::WorkerNotFound);
    hive.stop().await;
}

#[tokio::test]
async fn the_next_hive_takes_over_and_touches_only_what_changed() {
    let two = |flag: &str| {
        format!(
            "{SLEEPER}[worker.down]\ncommand = [\"sleep\", \"1001\"]\n[worker.b]\ncommand = [\"sleep\", \"{flag}\"]\n"
        )
    };
    let home = Home::new(&two("2000"));
    let hive = home.start().await;
    let sleeper = hive.in_phase("sleeper", 0, Phase::Running).await;
    let b = hive.in_phase("b", 0, Phase::Running).await;
    hive.verb("down", Verb::Stop).await.unwrap();
    hive.client.shutdown(&ShutdownRequest { keep_children: true, now: false }).await.unwrap();
    hive.ended().await;
    assert!(is_alive(sleeper.pid.unwrap()) && is_alive(b.pid.unwrap()));

    let hive = home.start().await;
    let adopted = hive.in_phase("sleeper", 0, Phase::Running).await;
    assert_eq!((adopted.pid, adopted.incarnation), (sleeper.pid, sleeper.incarnation));
    assert_eq!(hive.worker("down", 0).await.unwrap().phase, Phase::Stopped, "what was asked for stays");
    hive.client.shutdown(&ShutdownRequest { keep_children: true, now: false }).await.unwrap();
    hive.ended().await;

    home.configure(&two("3000"));
    let hive = home.start().await;
    let changed = crate::support::eventually(|| async {
        let worker = hive.worker("b", 0).await.unwrap();
        if worker.phase == Phase::Running && worker.pid != b.pid { Ok(worker) } else { Err(worker) }
    })
    .await;
    assert_eq!(changed.incarnation, b.incarnation + 1);
    gone(b.pid.unwrap()).await;
    assert_eq!(hive.worker("sleeper", 0).await.unwrap().pid, sleeper.pid);
    hive.stop().await;
    gone(sleeper.pid.unwrap()).await;
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_is_named() {
    let home = Home::new(SLEEPER);
    let blocked = home.path().join("state/hive-assignment.json");
    std::fs::create_dir_all(&blocked).unwrap();
    let error = home.try_start().await.err().expect("it cannot start");
    assert!(format!("{error:#}").contains("hive-assignment.json"), "{error:#}");
    std::fs::remove_dir(&blocked).unwrap();
}
