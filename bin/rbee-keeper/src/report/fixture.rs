//! A small report for tests, with everything that can be in one.

use jiff::Timestamp;
use rbee_api::report::{
    Availability, CauseCount, DaemonReport, HealthFailure, HealthFailures, Missing, ModelReport, ModelSeries, Period,
    Quantiles, Report, Restart, Restarts, Series, SlowStart, Usage,
};

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Of nothing.
pub(super) fn empty() -> Report {
    Report {
        period: Period::Day,
        from: at("2026-11-20T20:40:00Z"),
        to: at("2026-11-21T20:40:00Z"),
        step_s: 900,
        sources: vec!["queen".to_owned()],
        missing: Vec::new(),
        notes: Vec::new(),
        daemons: Vec::new(),
        models: Vec::new(),
    }
}

pub(super) fn daemon(hive: Option<&str>, name: &str) -> DaemonReport {
    let usage = |average, peak| Some(Usage { average, peak, peak_at: at("2026-11-21T03:00:00Z") });
    DaemonReport {
        hive: hive.map(str::to_owned),
        name: name.to_owned(),
        availability: Availability { percent: Some(100.0), up_ms: 86_400_000, ..Availability::default() },
        restarts: Restarts::default(),
        cpu_percent: usage(3.2, 41.0),
        memory_bytes: usage(4e7, 1.5e9),
        slowest_starts: Vec::new(),
        health_failures: HealthFailures::default(),
        series: Series {
            up: vec![Some(1.0); 96],
            off: vec![false; 96],
            cpu_percent: vec![Some(3.2); 96],
            memory_bytes: vec![Some(40_000_000); 96],
        },
    }
}

/// Of a day on which things went wrong.
pub(super) fn eventful() -> Report {
    let mut shaky = daemon(Some("local"), "api/0");
    shaky.availability = Availability {
        percent: Some(98.5),
        up_ms: 85_104_000,
        down_ms: 1_290_000,
        starting_ms: 6_000,
        ..shaky.availability
    };
    let restart = |text, gave_up| Restart { at: at(text), cause: "it exited with code 1".to_owned(), gave_up };
    shaky.restarts = Restarts {
        total: 4,
        causes: vec![
            CauseCount { cause: "it exited with code 1".to_owned(), count: 3 },
            CauseCount { cause: "<script>alert(1)</script> & \"it\" \u{1b}[2Jwent".to_owned(), count: 1 },
        ],
        newest: vec![restart("2026-11-21T19:00:00Z", true), restart("2026-11-21T08:00:00Z", false)],
    };
    shaky.slowest_starts = vec![SlowStart { at: at("2026-11-21T19:00:00Z"), took_ms: 41_250, incarnation: Some(4) }];
    shaky.health_failures = HealthFailures {
        total: 2,
        newest: vec![HealthFailure { at: at("2026-11-21T12:00:00Z"), reason: "<b>no</b> answer".to_owned() }],
    };
    shaky.series.up[80] = Some(0.2);
    shaky.series.up[81] = None;
    let mut off = daemon(Some("local"), "a-name-that-is-much-longer-than-most-names-of-workers-are/12");
    off.availability = Availability { percent: None, off_ms: 86_400_000, ..Availability::default() };
    (off.cpu_percent, off.memory_bytes) = (None, None);
    off.series.up = vec![None; 96];
    off.series.off = vec![true; 96];
    let quantiles = |p50, p95, p99| Some(Quantiles { p50, p95, p99 });
    let model = ModelReport {
        name: "smollm2</h3><script>".to_owned(),
        requests: 12_431,
        errors: 31,
        abandoned: 7,
        latency_ms: quantiles(840.0, 2_250.0, 12_300.0),
        first_token_ms: quantiles(41.0, 180.0, 900.0),
        prompt_tokens: 800_000,
        completion_tokens: 400_000,
        series: ModelSeries {
            requests: (0..96_u8).map(f32::from).collect(),
            errors: vec![0.5; 96],
            p95_ms: (0..96_u8).map(|index| (index > 10).then(|| f32::from(index) * 10.0)).collect(),
        },
    };
    Report {
        sources: vec!["queen".to_owned(), "local".to_owned()],
        missing: vec![Missing {
            hive: "far".to_owned(),
            reason: "it does not answer at http://10.0.0.9:7835".to_owned(),
        }],
        notes: vec!["local: the clock was set back by 1h at 2026-11-21T02:00:00Z".to_owned()],
        daemons: vec![daemon(None, "queen"), daemon(Some("local"), "hive"), shaky, off],
        models: vec![model],
        ..empty()
    }
}
