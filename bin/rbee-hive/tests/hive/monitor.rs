//! A hive looks at its workers, keeps what it sees, and does something about one that uses too much.

use std::time::Duration;

use jiff::Timestamp;
use monitoring::{Bounds, History};
use rbee_api::{Phase, ProcessUsage, WorkerStatus};
use rbee_runtime::dirs::Dirs;

use crate::support::{Home, Running, eventually};

const OFTEN: &str = "ports = \"0\"\n[monitor]\ninterval = \"100ms\"";

/// Two processes; the second one keeps some files open.
const PAIR: &str =
    "[worker.pair]\ncommand = [\"sh\", \"-c\", \"sleep 1000 8</dev/null 9</dev/null & echo up; wait\"]\n";

async fn usage(hive: &Running, name: &str, fits: impl Fn(&ProcessUsage) -> bool) -> ProcessUsage {
    eventually(|| async {
        let worker = hive.worker(name, 0).await.ok_or("not there".to_owned())?;
        worker.usage.clone().filter(|usage| fits(usage)).ok_or_else(|| format!("{worker:?}"))
    })
    .await
}

fn home(workers: &str) -> Home {
    let home = Home::new("");
    home.configure_hive(OFTEN, workers);
    home
}

/// MONI-08 MONI-11 MONI-19
#[tokio::test]
async fn workers_are_sampled_whole_and_what_was_seen_is_kept() {
    let home = home(PAIR);
    let hive = home.start().await;
    // A process has few files and hardly any memory until it has become its program, and proportional memory is older than
    // the rest: a round may fall in between.
    let seen = usage(&hive, "pair", |usage| {
        let used = &usage.figures;
        let whole = usage.processes == 2 && used.threads == 2 && used.fds.is_some_and(|fds| fds >= 8);
        let pss = used.pss_bytes.is_some_and(|pss| pss > 0 && pss <= used.rss_bytes);
        whole && pss && used.rss_bytes > 500_000
    })
    .await;
    // The first look at the disk may have come before there was a history to see.
    let own = eventually(|| async {
        let own = hive.client.status().await.unwrap().hives[0].clone();
        let takes = own.usage.as_ref().map_or(0, |usage| usage.figures.disk_bytes);
        if takes >= 4096 { Ok(own) } else { Err(own) }
    })
    .await;
    assert_eq!(own.history_trouble, None);
    let own = own.usage.unwrap().figures;
    assert!(own.rss_bytes > seen.figures.rss_bytes, "{own:?}");
    let worker = hive.worker("pair", 0).await.unwrap();
    assert_eq!(worker.rss_bytes, worker.usage.unwrap().figures.rss_bytes, "the whole tree");
    hive.stop().await;
    // What was seen outlives the hive, and its file is closed.
    let file = Dirs::under(home.path()).hive_history_file();
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    let history = History::open(&file, &Bounds::default()).history;
    let hour = Duration::from_secs(3600);
    let kept = history.summaries(Timestamp::now() - 2 * hour, Timestamp::MAX, hour).await.unwrap();
    let names: std::collections::BTreeSet<&str> = kept.iter().map(|summary| &*summary.daemon).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["hive", "pair/0"]);
    assert!(kept.iter().all(|summary| summary.rss_bytes.max > 500_000.0), "{kept:?}");
}

/// MONI-10
#[tokio::test]
async fn a_worker_above_a_threshold_is_restarted_and_why_says_so() {
    let restart =
        "thresholds = { fds = 5, for = \"0s\", action = \"restart\" }\nrestart = { backoff_min = \"10ms\" }\n";
    let home = home(&format!("{PAIR}{restart}"));
    let hive = home.start().await;
    let again = eventually(|| async {
        let worker = hive.worker("pair", 0).await.unwrap();
        if worker.incarnation >= 2 { Ok(worker) } else { Err(worker) }
    })
    .await;
    assert!(again.restarts >= 1);
    let why = hive.client.worker_why(&"pair/0".parse().unwrap()).await.unwrap();
    let told = serde_json::to_string(&why).unwrap();
    assert!(told.contains("files open, more than 5"), "{told}");
    hive.stop().await;
}

/// MONI-10
#[tokio::test]
async fn a_threshold_that_only_warns_leaves_the_worker_alone() {
    let warn = "thresholds = { memory = \"1KiB\", fds = 100000, for = \"0s\" }\n";
    let home = home(&format!("{PAIR}{warn}"));
    let hive = home.start().await;
    let first = usage(&hive, "pair", |usage| usage.processes == 2).await;
    // Some rounds later it is the same run.
    usage(&hive, "pair", |usage| usage.at > first.at + Duration::from_millis(500)).await;
    let WorkerStatus { phase, incarnation, .. } = hive.worker("pair", 0).await.unwrap();
    assert_eq!((phase, incarnation), (Phase::Running, 1));
    hive.stop().await;
}

/// MONI-07
#[tokio::test]
async fn a_history_that_cannot_be_kept_is_said_and_the_work_goes_on() {
    let home = home(PAIR);
    let file = Dirs::under(home.path()).hive_history_file();
    std::fs::create_dir_all(&file).unwrap();
    let hive = home.start().await;
    usage(&hive, "pair", |usage| usage.processes == 2).await;
    let trouble = hive.client.status().await.unwrap().hives[0].history_trouble.clone().unwrap();
    assert!(trouble.contains("hive.sqlite"), "{trouble}");
    hive.stop().await;
}

/// MONI-12
#[tokio::test]
async fn who_wants_no_samples_gets_none() {
    let home = Home::new("");
    home.configure_hive("ports = \"0\"\n[monitor]\nenabled = false\ninterval = \"100ms\"", PAIR);
    let hive = home.start().await;
    // It is looked at when somebody asks; in the moment in which it becomes its program it has no memory.
    let worker = eventually(|| async {
        let worker = hive.worker("pair", 0).await.ok_or("not there".to_owned())?;
        let is_seen = worker.rss_bytes > 0 && worker.phase == Phase::Running;
        if is_seen { Ok(worker) } else { Err(format!("{worker:?}")) }
    })
    .await;
    assert_eq!(worker.usage, None);
    assert_eq!(hive.client.status().await.unwrap().hives[0].usage, None);
    hive.stop().await;
}
