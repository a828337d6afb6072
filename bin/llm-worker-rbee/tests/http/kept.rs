//! What a worker keeps over its restarts.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::worker::{Worker, run_until, test_model};

/// Some hundred tokens.
fn body() -> Value {
    let prompt = "The bees of the old woman knew every flower between the two rivers. ".repeat(12);
    json!({"model": "m", "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": true})
}

fn start(folder: &Path, more: &[&str]) -> Option<Worker> {
    let folder = folder.to_str().unwrap();
    Worker::start(&[&["--deterministic", "--state-dir", folder][..], more].concat())
}

fn kept(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder.join("prefixes")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Asks once, ends; text, hit rate, log.
async fn asked(worker: Worker) -> (String, f64, String) {
    let text = worker.complete(&body()).await;
    let rate = worker.health().await["cache_hit_rate"].as_f64().unwrap();
    worker.signal(Signal::SIGTERM);
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    (text, rate, log)
}

/// WORK-14, WORK-15, WORK-17.
#[tokio::test]
async fn a_prompt_is_known_after_a_restart_unless_its_file_is_damaged_or_to_be_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let Some(worker) = start(folder.path(), &[]) else { return };
    let (text, rate, log) = asked(worker).await;
    assert_eq!((rate, kept(folder.path()).len()), (0.0, 1), "{log}");
    assert!(log.contains("[STATS] served 1 requests, cache hit rate 0.0%"), "{log}");

    let worker = start(folder.path(), &[]).unwrap();
    let (again, rate, log) = asked(worker).await;
    assert_eq!(again, text);
    assert!(rate > 0.95, "{rate}: {log}");
    assert!(
        log.contains("a kept prefix is used") && log.contains("[STATS] served 1 requests, cache hit rate 9"),
        "{log}"
    );

    let file = kept(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let worker = start(folder.path(), &[]).unwrap();
    let metrics = worker.client().get(format!("{}/metrics", worker.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"rbee_worker_prefixes_dropped_total{model="m"} 1"#), "{metrics}");
    let (again, rate, log) = asked(worker).await;
    assert_eq!((again.as_str(), rate), (text.as_str(), 0.0));
    assert!(log.contains("a kept prefix is dropped") && log.contains("its checksum is wrong"), "{log}");

    // Another context is another engine.
    let worker = start(folder.path(), &["--context", "1024"]).unwrap();
    let (again, rate, log) = asked(worker).await;
    assert_eq!((again.as_str(), rate), (text.as_str(), 0.0));
    assert!(log.contains("it was made by another model or engine"), "{log}");

    let worker = start(folder.path(), &["--context", "1024", "--clean"]).unwrap();
    let (again, rate, log) = asked(worker).await;
    assert_eq!((again.as_str(), rate), (text.as_str(), 0.0), "{log}");
}

/// WORK-16.
#[tokio::test]
async fn without_room_nothing_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let Some(worker) = start(folder.path(), &["--state-mib", "1"]) else { return };
    let (_, _, log) = asked(worker).await;
    assert_eq!(kept(folder.path()).len(), 0, "{log}");
    assert!(log.contains("larger than the folder may be"), "{log}");
}

/// WORK-18.
#[tokio::test]
async fn told_to_stop_while_it_loads_it_ends_at_once() {
    let Some(model) = test_model() else { return };
    // Told as soon as it can hear it; whether the model is there by then is a matter of luck, the end is not.
    let args = ["--model-path", model.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let (status, log) = run_until(&args, "loading the model", Signal::SIGTERM).await;
    assert_eq!(status.code(), Some(0), "{log}");
}
