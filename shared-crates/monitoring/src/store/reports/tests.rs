//! Reports from a file, over the time for which samples are kept and the hours before it.

use jiff::Timestamp;
use rbee_api::Figures;
use rbee_api::report::Report;

use super::*;
use crate::Bounds;
use crate::report::RequestCounts;

const INTERVAL: Duration = Duration::from_secs(15);
/// Some whole hour.
const START_S: i64 = 1_700_006_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START_S + seconds).unwrap()
}

fn sample(daemon: &str, cpu_percent: f64) -> Sample {
    let figures = Figures { cpu_percent, rss_bytes: 1_000, threads: 1, ..Figures::default() };
    Sample { running: true, figures, ..Sample::none(daemon) }
}

async fn report(history: &History, period: Period, now_s: i64) -> Report {
    let tier = Tier::Hive("local".to_owned());
    history.draft(tier, period, at(now_s), INTERVAL).await.unwrap().finish()
}

fn open(dir: &tempfile::TempDir, keep_fine_s: u64) -> History {
    let bounds = Bounds { keep_fine: Duration::from_secs(keep_fine_s), ..Bounds::default() };
    History::open(&dir.path().join("h.sqlite"), &bounds).history
}

/// REPT-05
#[tokio::test]
async fn samples_count_once_whether_they_are_kept_singly_or_by_the_hour() {
    for keep_fine_s in [7_200, 10_800, 86_400, 604_800] {
        let dir = tempfile::tempdir().unwrap();
        let history = open(&dir, keep_fine_s);
        // Ten hours, of which the first five have half the load of the others.
        for index in 0..2_400 {
            let cpu = if index < 1_200 { 10.0 } else { 20.0 };
            history.add_samples(at(600 + index * 15), vec![sample("w/0", cpu)]);
            if index % 1_000 == 0 {
                history.flush().await.unwrap();
            }
        }
        let found = report(&history, Period::Day, 600 + 2_400 * 15).await;
        let cpu = found.daemons[0].cpu_percent.unwrap();
        assert!((cpu.average - 15.0).abs() < 0.01, "kept for {keep_fine_s} s: {}", cpu.average);
        assert_eq!(cpu.peak, 20.0);
        let known: Vec<f32> = found.daemons[0].series.cpu_percent.iter().copied().flatten().collect();
        assert!((40..=44).contains(&known.len()), "kept for {keep_fine_s} s: {}", known.len());
        assert_eq!((known[1], known[38]), (10.0, 20.0), "kept for {keep_fine_s} s");
        history.close().await.unwrap();
    }
}

/// REPT-05
#[tokio::test]
async fn what_has_no_process_does_not_count_as_using_nothing() {
    for keep_fine_s in [3_600, 604_800] {
        let dir = tempfile::tempdir().unwrap();
        let history = open(&dir, keep_fine_s);
        for index in 0..960 {
            // Half of each hour it is there.
            let there = if index % 240 < 120 { sample("w/0", 30.0) } else { Sample::none("w/0") };
            history.add_samples(at(index * 15), vec![there, Sample::none("idle/0")]);
        }
        let found = report(&history, Period::Day, 960 * 15).await;
        let names: Vec<_> = found.daemons.iter().map(|daemon| daemon.name.as_str()).collect();
        assert_eq!(names, ["w/0"], "of what never had a process nothing is known");
        let cpu = found.daemons[0].cpu_percent.unwrap();
        assert!((cpu.average - 30.0).abs() < 0.01, "kept for {keep_fine_s} s: {}", cpu.average);
        history.close().await.unwrap();
    }
}

/// REPT-07
#[tokio::test]
async fn an_empty_file_is_an_empty_report() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(&dir, 3_600);
    let found = report(&history, Period::Week, 0).await;
    assert_eq!((found.daemons.len(), found.models.len(), found.notes.len()), (0, 0, 0));
    history.close().await.unwrap();
}

/// REPT-07
#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("h.sqlite"), vec![b'x'; 8_192]).unwrap();
    let history = open(&dir, 3_600);
    history.add_samples(at(-10), vec![sample("w/0", 5.0)]);
    history.add_requests(at(-10), vec![("m".to_owned(), RequestCounts { requests: 3, ..RequestCounts::default() })]);
    let found = report(&history, Period::Hour, 0).await;
    assert!(
        found.notes[0].contains("set aside as") && found.notes[0].contains("h.sqlite.corrupt"),
        "{:?}",
        found.notes
    );
    assert_eq!((found.daemons[0].cpu_percent.unwrap().peak, found.models[0].requests), (5.0, 3));
    history.close().await.unwrap();
}
