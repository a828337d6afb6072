//! The report as one page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! The template escapes every text; only our own charts and style sheet go in as they are.

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, context};
use rbee_api::report::{DaemonReport, ModelReport, Period, Quantiles, Report};
use serde::Serialize;

use super::charts::{self, Ink, Quantity};
use super::{Grade, Totals, has_trouble, words};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

#[derive(Serialize)]
struct Figure {
    name: String,
    value: String,
    more: String,
    tone: &'static str,
}

#[derive(Serialize)]
struct Chart {
    name: String,
    svg: String,
}

#[derive(Serialize)]
struct Model {
    name: String,
    figures: Vec<Figure>,
    charts: Vec<Chart>,
}

#[derive(Serialize)]
struct Hive {
    name: String,
    daemons: Vec<Daemon>,
}

#[derive(Serialize)]
struct Daemon {
    name: String,
    grade: &'static str,
    percent: String,
    times: String,
    restarts: String,
    cpu: String,
    memory: String,
    strip: String,
    cpu_spark: String,
    memory_spark: String,
    lists: Vec<List>,
}

#[derive(Serialize)]
struct List {
    name: &'static str,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    at: String,
    text: String,
}

/// The page.
///
/// # Errors
/// When the template and its values do not fit: a defect of ours.
pub(crate) fn html(report: &Report) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let models: Vec<Model> = report.models.iter().map(|model| of_model(report, model)).collect();
    environment.render_str(
        PAGE,
        context! {
            css => STYLE,
            version => env!("CARGO_PKG_VERSION"),
            period => report.period.as_str(),
            from => words::moment(report.from),
            to => words::moment(report.to),
            sources => Value::from(Serde(&report.sources)),
            notes => Value::from(Serde(notes(report))),
            tiles => Value::from(Serde(tiles(report))),
            charts => Value::from(Serde(totals_charts(report))),
            models => Value::from(Serde(models)),
            hives => Value::from(Serde(hives(report))),
        },
    )
}

fn notes(report: &Report) -> Vec<String> {
    let missing = report.missing.iter();
    let missing = missing.map(|missing| format!("Hive {} is missing: {}", missing.hive, missing.reason));
    missing.chain(report.notes.iter().cloned()).collect()
}

fn figure(name: &str, value: String, more: String) -> Figure {
    Figure { name: name.to_owned(), value, more, tone: "" }
}

fn tiles(report: &Report) -> Vec<Figure> {
    let totals = Totals::of(report);
    let daemons = words::plural(totals.daemons, "daemon", "daemons");
    let mut tiles = vec![Figure {
        tone: Grade::of(totals.availability).word(),
        ..figure("Available", words::percent_or_unknown(totals.availability), format!("of {daemons}"))
    }];
    let down = match totals.down_ms {
        0 => "nothing was down".to_owned(),
        ms => format!("{} down in all", words::duration(ms)),
    };
    tiles.push(figure("Restarts", words::count(totals.restarts), down));
    tiles.push(figure("Health failures", words::count(totals.health_failures), "probes that failed".to_owned()));
    if !report.models.is_empty() {
        let failed = match (totals.errors, totals.abandoned) {
            (0, 0) => "none failed".to_owned(),
            (errors, 0) => format!("{} failed", words::count(errors)),
            (errors, left) => format!("{} failed, {} left by clients", words::count(errors), words::count(left)),
        };
        tiles.push(figure("Requests", words::count(totals.requests), failed));
        let models = words::plural(report.models.len() as u64, "model", "models");
        tiles.push(figure("Tokens", words::count(totals.tokens), format!("by {models}")));
    }
    tiles
}

fn totals_charts(report: &Report) -> Vec<Chart> {
    if report.daemons.is_empty() {
        return Vec::new();
    }
    let steps = report.daemons[0].series.up.len();
    let cpu = charts::sum(steps, report.daemons.iter().map(|daemon| &daemon.series.cpu_percent));
    let cores: Vec<_> = cpu.iter().map(|cpu| cpu.map(|percent| percent / 100.0)).collect();
    let memory: Vec<Vec<Option<f64>>> =
        report.daemons.iter().map(|daemon| as_numbers(&daemon.series.memory_bytes)).collect();
    let memory = charts::sum(steps, memory.iter());
    vec![
        Chart {
            name: "CPU of all, in cores".to_owned(),
            svg: charts::course(report, &cores, Ink::Cpu, Quantity::Plain),
        },
        Chart { name: "Memory of all".to_owned(), svg: charts::course(report, &memory, Ink::Memory, Quantity::Bytes) },
    ]
}

fn of_model(report: &Report, model: &ModelReport) -> Model {
    let quantile = |of: Option<Quantiles>, pick: fn(&Quantiles) -> f64| {
        of.as_ref().map_or_else(|| "–".to_owned(), |found| words::latency(pick(found)))
    };
    let plain = |name: &str, value: String| figure(name, value, String::new());
    let tone = if model.errors > 0 { "bad" } else { "" };
    let figures = vec![
        plain("requests", words::count(model.requests)),
        Figure { tone, ..plain("failed", words::count(model.errors)) },
        plain("left by clients", words::count(model.abandoned)),
        plain("half within", quantile(model.latency_ms, |found| found.p50)),
        plain("95 % within", quantile(model.latency_ms, |found| found.p95)),
        plain("99 % within", quantile(model.latency_ms, |found| found.p99)),
        plain("first token, half", quantile(model.first_token_ms, |found| found.p50)),
        plain("first token, 95 %", quantile(model.first_token_ms, |found| found.p95)),
        plain("tokens read", words::count(model.prompt_tokens)),
        plain("tokens written", words::count(model.completion_tokens)),
    ];
    let p95: Vec<Option<f64>> = model.series.p95_ms.iter().map(|value| value.map(f64::from)).collect();
    let every = words::duration(report.step_s * 1_000);
    let charts = vec![
        Chart {
            name: format!("Requests in {every}"),
            svg: charts::bars(report, &model.series.requests, &model.series.errors),
        },
        Chart {
            name: "95 % were answered within".to_owned(),
            svg: charts::course(report, &p95, Ink::Latency, Quantity::Milliseconds),
        },
    ];
    Model { name: model.name.clone(), figures, charts }
}

fn hives(report: &Report) -> Vec<Hive> {
    let mut hives: Vec<Hive> = Vec::new();
    for daemon in &report.daemons {
        let name = match &daemon.hive {
            Some(hive) => format!("Hive {hive}"),
            None => "Queen".to_owned(),
        };
        let daemon = of_daemon(daemon, report.period);
        match hives.last_mut().filter(|hive| hive.name == name) {
            Some(hive) => hive.daemons.push(daemon),
            None => hives.push(Hive { name, daemons: vec![daemon] }),
        }
    }
    hives
}

fn of_daemon(daemon: &DaemonReport, period: Period) -> Daemon {
    let cpu: Vec<Option<f64>> = daemon.series.cpu_percent.iter().map(|value| value.map(f64::from)).collect();
    let memory = as_numbers(&daemon.series.memory_bytes);
    let times = &daemon.availability;
    let told: Vec<String> = [
        ("up", times.up_ms),
        ("starting", times.starting_ms),
        ("down", times.down_ms),
        ("stopped by order", times.off_ms),
        ("not known", times.unknown_ms),
    ]
    .into_iter()
    .filter(|(_, ms)| *ms > 0)
    .map(|(what, ms)| format!("{} {what}", words::duration(ms)))
    .collect();
    let spark = |values: &[Option<f64>], ink| match values.iter().any(Option::is_some) {
        true => charts::spark(values, ink),
        false => String::new(),
    };
    Daemon {
        name: daemon.name.clone(),
        grade: Grade::of(times.percent).word(),
        percent: match (times.percent, times.off_ms) {
            (None, 1..) => "stopped".to_owned(),
            (percent, _) => words::percent_or_unknown(percent),
        },
        times: told.join(", "),
        restarts: words::count(daemon.restarts.total),
        cpu: words::spread(daemon.cpu_percent.as_ref(), words::cpu),
        memory: words::spread(daemon.memory_bytes.as_ref(), words::bytes),
        strip: charts::strip(&daemon.series),
        cpu_spark: spark(&cpu, Ink::Cpu),
        memory_spark: spark(&memory, Ink::Memory),
        lists: if has_trouble(daemon) { lists(daemon, period) } else { Vec::new() },
    }
}

fn lists(daemon: &DaemonReport, period: Period) -> Vec<List> {
    let at = |at| words::moment_within(at, period);
    let line = |at: String, text: String| Line { at, text };
    let causes = daemon.restarts.causes.iter();
    let causes = causes.map(|cause| line(format!("{}×", cause.count), cause.cause.clone())).collect();
    let newest = daemon.restarts.newest.iter().take(5);
    let newest = newest.map(|restart| {
        let gave_up = if restart.gave_up { "gave up: " } else { "" };
        line(at(restart.at), format!("{gave_up}{}", restart.cause))
    });
    let starts = daemon.slowest_starts.iter();
    let starts = starts.map(|start| line(words::duration(start.took_ms), format!("at {}", at(start.at)))).collect();
    let failures = daemon.health_failures.newest.iter().take(5);
    let failures = failures.map(|failure| line(at(failure.at), failure.reason.clone())).collect();
    let newest: Vec<Line> = newest.collect();
    let several = daemon.restarts.causes.len() < newest.len();
    [
        ("Restarted because", causes),
        ("Newest restarts", if several { newest } else { Vec::new() }),
        ("Slowest starts", starts),
        ("Failed health probes", failures),
    ]
    .into_iter()
    .filter(|(_, lines): &(_, Vec<Line>)| !lines.is_empty())
    .map(|(name, lines)| List { name, lines })
    .collect()
}

#[expect(clippy::cast_precision_loss, reason = "bytes for a chart")]
fn as_numbers(values: &[Option<u64>]) -> Vec<Option<f64>> {
    values.iter().map(|value| value.map(|value| value as f64)).collect()
}
