//! Rounds become hours, both within their bounds, whatever the clock does.

use std::time::Duration;

use jiff::Timestamp;
use rbee_api::Figures;

use super::*;

const T0: i64 = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS;

fn history(bounds: &Bounds) -> (tempfile::TempDir, History) {
    let dir = tempfile::tempdir().unwrap();
    let opened = History::open(&dir.path().join("h.sqlite"), bounds);
    assert_eq!((opened.set_aside, opened.history.trouble()), (None, None));
    (dir, opened.history)
}

fn at(ms: i64) -> Timestamp {
    timestamp(T0 + ms)
}

fn sample(cpu_percent: f64, rss_mib: u64) -> Sample {
    let figures = Figures { cpu_percent, rss_bytes: rss_mib << 20, ..Figures::default() };
    Sample { running: true, incarnation: 1, figures, ..Sample::none("w/0") }
}

const MINUTE: i64 = 60_000;
const HOUR: Duration = Duration::from_secs(3600);

/// MONI-03
#[tokio::test]
async fn an_hour_of_samples_becomes_its_average_and_peak() {
    let (_dir, history) = history(&Bounds::default());
    for minute in 0..61 {
        history.add_samples(at(minute * MINUTE), vec![sample(minute as f64, 10 + minute as u64)]);
    }
    let hours = history.summaries(at(0), at(2 * HOUR_MS), HOUR).await.unwrap();
    assert_eq!(hours.len(), 2, "{hours:?}");
    assert_eq!((hours[0].samples, hours[0].running, hours[0].at), (60, 60, at(0)));
    assert_eq!(hours[0].cpu_percent, crate::Spread { avg: 29.5, max: 59.0 });
    assert_eq!(hours[0].rss_bytes.max, f64::from(69 << 20));
    // The hour that is not over yet comes from its samples.
    assert_eq!((hours[1].samples, hours[1].cpu_percent.max), (1, 60.0));
    let spans = history.summaries(at(0), at(HOUR_MS), Duration::from_secs(900)).await.unwrap();
    let counts: Vec<u64> = spans.iter().map(|span| span.samples).collect();
    assert_eq!(counts, [15, 15, 15, 15]);
}

#[tokio::test]
async fn what_was_read_and_written_is_counted_between_samples_and_anew_after_a_restart() {
    let (_dir, history) = history(&Bounds::default());
    let counters = [(1, 5), (1, 8), (2, 1), (2, 4)];
    for (minute, (incarnation, read_kib)) in (0..).zip(counters) {
        let mut seen = Sample { incarnation, ..sample(1.0, 1) };
        seen.figures.read_bytes = Some(read_kib << 10);
        history.add_samples(at(minute * MINUTE), vec![seen]);
    }
    let spans = history.summaries(at(0), at(HOUR_MS), HOUR).await.unwrap();
    assert_eq!((spans[0].read_bytes >> 10, spans[0].incarnation), (3 + 1 + 3, 2));
}

/// MONI-04
#[tokio::test]
async fn a_clock_that_jumps_back_loses_nothing() {
    let (_dir, history) = history(&Bounds::default());
    for minute in [0, 70, -30, 40, 50, 75] {
        history.add_samples(at(minute * MINUTE), vec![sample(minute as f64 + 100.0, 1)]);
    }
    let hours = history.summaries(at(-HOUR_MS), at(2 * HOUR_MS), HOUR).await.unwrap();
    let found: Vec<(u64, f64)> = hours.iter().map(|hour| (hour.samples, hour.cpu_percent.max)).collect();
    // The middle hour was added up before the jump, and again with what came after it.
    assert_eq!(found, [(1, 70.0), (3, 150.0), (2, 175.0)]);
    assert_eq!((history.lost(), history.trouble()), (0, None));
}

/// MONI-04
#[tokio::test]
async fn a_clock_that_was_years_ahead_leaves_nothing_for_ever() {
    let (_dir, history) = history(&Bounds::default());
    let ahead = 3 * 365 * 24 * HOUR_MS;
    history.add_samples(at(ahead), vec![sample(2.0, 1)]);
    history.add_samples(at(ahead + HOUR_MS), vec![sample(2.0, 1)]);
    history.add_samples(at(0), vec![sample(1.0, 1)]);
    history.add_samples(at(HOUR_MS), vec![sample(1.0, 1)]);
    let hours = history.summaries(at(0), at(2 * ahead), HOUR).await.unwrap();
    assert_eq!(hours.iter().map(|hour| hour.at).collect::<Vec<_>>(), [at(0), at(HOUR_MS)]);
}

/// MONI-05: a quarter of a year of a hundred workers, a sample of each every 15 seconds.
#[tokio::test]
async fn a_quarter_of_a_year_stays_below_its_size() {
    let bounds = Bounds::default();
    let (dir, history) = history(&bounds);
    let names: Vec<Arc<str>> = (0..100).map(|n| format!("worker{n}/0").into()).collect();
    let rounds_a_day = 24 * 3600 / 15;
    // Most of the quarter at one round in ten minutes: the fine rows of all days but the last are gone anyhow, and an
    // hour is a row of the same size whatever it was made of.
    let quarter_ms = 90 * 24 * HOUR_MS;
    let mut times: Vec<i64> = (0..quarter_ms - 24 * HOUR_MS).step_by(10 * MINUTE as usize).collect();
    times.extend((0..rounds_a_day).map(|round| quarter_ms - 24 * HOUR_MS + round * 15_000));
    let mut largest = 0;
    for (round, ms) in times.into_iter().enumerate() {
        let round = round as u64;
        let samples = names.iter().zip(0u64..).map(|(name, n)| Sample {
            daemon: Arc::clone(name),
            incarnation: 3 + round / 1000,
            running: true,
            healthy: Some(true),
            figures: Figures {
                cpu_percent: ((round * 7 + n * 13) % 400) as f64 / 3.0,
                rss_bytes: (3 << 30) + (((round * 7919 + n) % 4096) << 12),
                pss_bytes: Some((2 << 30) + (((round * 104_729 + n) % 4096) << 12)),
                fds: Some(200 + n),
                threads: 40,
                read_bytes: Some(round << 20),
                written_bytes: Some(round << 18),
                disk_bytes: 50 << 20,
                gpu_bytes: None,
            },
            uptime_s: round * 15,
            restarts: n % 3,
        });
        history.add_samples(at(ms), samples.collect());
        if round.is_multiple_of(200) {
            history.flush().await.unwrap();
            largest = largest.max(bytes_on_disk(dir.path()));
        }
    }
    history.flush().await.unwrap();
    largest = largest.max(bytes_on_disk(dir.path()));
    assert!(largest <= bounds.bytes_max, "{largest}");
    let hours = history.summaries(at(0), at(quarter_ms), HOUR).await.unwrap();
    assert_eq!(hours.len(), 100 * 24 * 90);
    let fine = history.fold_samples(at(0), at(quarter_ms), 0usize, |n, _, _| *n += 1).await.unwrap();
    // One of `keep_fine`, and what waits for the hour's end.
    assert!((100 * 5760..=100 * 6000).contains(&fine), "{fine}");
    assert_eq!((history.lost(), history.trouble()), (0, None));
}

/// MONI-05
#[tokio::test]
async fn a_full_file_gives_its_oldest_rounds_for_new_ones() {
    let bounds = Bounds { bytes_max: 2 << 20, ..Bounds::default() };
    let (dir, history) = history(&bounds);
    for round in 0..3000 {
        let samples = (0..50).map(|n| Sample { daemon: format!("w/{n}").into(), ..sample(round as f64, 900) });
        history.add_samples(at(round * 1000), samples.collect());
        if round % 50 == 0 {
            history.flush().await.unwrap();
            let bytes = bytes_on_disk(dir.path());
            assert!(bytes <= bounds.bytes_max, "{bytes} after {round} rounds");
        }
    }
    let first_and_last = |state: &mut (f64, f64), _: Timestamp, sample: &Sample| {
        state.0 = state.0.min(sample.figures.cpu_percent);
        state.1 = sample.figures.cpu_percent;
    };
    let (first, last) = history.fold_samples(at(0), at(HOUR_MS), (f64::MAX, 0.0), first_and_last).await.unwrap();
    assert!(first > 100.0 && first < 2900.0, "{first}");
    assert_eq!((last, history.lost(), history.trouble()), (2999.0, 0, None));
}

fn bytes_on_disk(dir: &std::path::Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}
