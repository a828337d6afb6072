//! The report as text: tables where there is room for them, else a few short lines a daemon. No line is longer than the
//! terminal.

use rbee_api::report::{DaemonReport, ModelReport, Report, Usage};

use super::{Grade, Totals, has_trouble, words};
use crate::ui::{Tone, harmless};

/// From here on there may be room for tables.
const TABLE_COLUMNS: usize = 60;
/// A name is shortened to no less, or the table gives way.
const NAME_COLUMNS: usize = 8;
/// From here on there is room for the course of each daemon, too.
const COURSE_COLUMNS: usize = 104;
/// Cells of a course.
const COURSE_CELLS: usize = 24;
/// Narrower than this no word fits.
const COLUMNS_MIN: usize = 12;
/// Lines of each list of what went wrong, a daemon.
const LINES_MAX: usize = 5;

/// The report for a terminal of so many columns.
pub(crate) fn text(report: &Report, columns: usize, color: bool) -> String {
    let mut page = Page { columns: columns.max(COLUMNS_MIN), color, text: String::new() };
    page.head(report);
    if report.daemons.is_empty() && report.models.is_empty() {
        page.blank();
        page.wrapped("", &format!("Nothing is known of this {}: nothing ran, or nobody kept records.", report.period));
        return page.text;
    }
    page.daemons(report);
    page.models(report);
    page.trouble(report);
    page.text
}

struct Page {
    columns: usize,
    color: bool,
    text: String,
}

/// A field of a table: its text, and how it is meant.
type Field = (String, Tone);

impl Page {
    fn head(&mut self, report: &Report) {
        self.titled(&format!("The last {}", report.period));
        let times = format!("{} to {} UTC", words::moment(report.from), words::moment(report.to));
        self.wrapped("", &times);
        self.wrapped("", &format!("told by {}", report.sources.join(", ")));
        for missing in &report.missing {
            self.toned("! ", &format!("hive {} is missing: {}", missing.hive, missing.reason), Tone::Warn);
        }
        for note in &report.notes {
            self.toned("! ", note, Tone::Warn);
        }
        let totals = Totals::of(report);
        let mut parts = vec![
            format!("available {}", words::percent_or_unknown(totals.availability)),
            words::plural(totals.restarts, "restart", "restarts"),
            words::plural(totals.health_failures, "health failure", "health failures"),
        ];
        if totals.requests > 0 {
            let failed =
                format!("{} ({} failed)", words::plural(totals.requests, "request", "requests"), totals.errors);
            parts.push(failed);
        }
        self.blank();
        match self.columns >= TABLE_COLUMNS {
            true => self.wrapped("", &parts.join(", ")),
            false => parts.iter().for_each(|part| self.wrapped("", part)),
        }
    }

    fn daemons(&mut self, report: &Report) {
        if report.daemons.is_empty() {
            return;
        }
        self.blank();
        let mut header: Vec<&str> =
            vec!["DAEMON", "AVAILABLE", "DOWN", "RESTARTS", "CPU avg / peak", "MEMORY avg / peak"];
        let has_course = self.columns >= COURSE_COLUMNS;
        if has_course {
            header.insert(1, "COURSE");
        }
        let rows = report.daemons.iter().map(|daemon| {
            let times = &daemon.availability;
            let down_ms = times.down_ms + times.starting_ms;
            let mut row = vec![
                (words::name(daemon), Tone::Plain),
                (available(daemon), tone(Grade::of(times.percent))),
                (if down_ms > 0 { words::duration(down_ms) } else { String::new() }, Tone::Plain),
                (
                    if daemon.restarts.total > 0 { daemon.restarts.total.to_string() } else { String::new() },
                    Tone::Plain,
                ),
                (words::spread(daemon.cpu_percent.as_ref(), words::cpu), Tone::Plain),
                (words::spread(daemon.memory_bytes.as_ref(), words::bytes), Tone::Plain),
            ];
            if has_course {
                row.insert(1, (course(daemon), Tone::Plain));
            }
            row
        });
        let right = if has_course { &[2, 3, 4, 5, 6][..] } else { &[1, 2, 3, 4, 5][..] };
        if !self.table(&header, rows.collect(), right) {
            report.daemons.iter().for_each(|daemon| self.short_daemon(daemon));
        }
    }

    fn short_daemon(&mut self, daemon: &DaemonReport) {
        let times = &daemon.availability;
        self.toned("", &words::name(daemon), Tone::Bold);
        self.toned("  ", &available(daemon), tone(Grade::of(times.percent)));
        let down_ms = times.down_ms + times.starting_ms;
        if down_ms > 0 {
            self.wrapped("  ", &format!("down {}", words::duration(down_ms)));
        }
        if daemon.restarts.total > 0 {
            self.wrapped("  ", &words::plural(daemon.restarts.total, "restart", "restarts"));
        }
        let peak = |usage: &Option<Usage>, form: fn(f64) -> String| usage.as_ref().map(|usage| form(usage.peak));
        for (what, peak) in
            [("CPU", peak(&daemon.cpu_percent, words::cpu)), ("mem", peak(&daemon.memory_bytes, words::bytes))]
        {
            peak.into_iter().for_each(|peak| self.wrapped("  ", &format!("{what} max {peak}")));
        }
    }

    fn models(&mut self, report: &Report) {
        if report.models.is_empty() {
            return;
        }
        self.blank();
        let header = ["MODEL", "REQUESTS", "FAILED", "p50", "p95", "p99", "FIRST TOKEN", "TOKENS"];
        let rows = report.models.iter().map(|model| {
            let quantile = |pick: fn(&rbee_api::report::Quantiles) -> f64| {
                model.latency_ms.as_ref().map_or_else(|| "–".to_owned(), |found| words::latency(pick(found)))
            };
            let first = model.first_token_ms.map_or_else(|| "–".to_owned(), |found| words::latency(found.p50));
            let failed = if model.errors > 0 { Tone::Bad } else { Tone::Plain };
            [
                (model.name.clone(), Tone::Plain),
                (words::count(model.requests), Tone::Plain),
                (words::count(model.errors), failed),
                (quantile(|found| found.p50), Tone::Plain),
                (quantile(|found| found.p95), Tone::Plain),
                (quantile(|found| found.p99), Tone::Plain),
                (first, Tone::Plain),
                (words::count(model.prompt_tokens.saturating_add(model.completion_tokens)), Tone::Plain),
            ]
            .to_vec()
        });
        if !self.table(&header, rows.collect(), &[1, 2, 3, 4, 5, 6, 7]) {
            report.models.iter().for_each(|model| self.short_model(model));
        }
    }

    fn short_model(&mut self, model: &ModelReport) {
        self.toned("", &model.name, Tone::Bold);
        self.wrapped("  ", &words::plural(model.requests, "request", "requests"));
        if model.errors > 0 {
            self.toned("  ", &format!("{} failed", words::count(model.errors)), Tone::Bad);
        }
        if let Some(latency) = model.latency_ms {
            self.wrapped("  ", &format!("p50 {}", words::latency(latency.p50)));
            self.wrapped("  ", &format!("p95 {}", words::latency(latency.p95)));
        }
    }

    fn trouble(&mut self, report: &Report) {
        for daemon in report.daemons.iter().filter(|daemon| has_trouble(daemon)) {
            self.blank();
            self.toned("", &words::name(daemon), Tone::Bold);
            let at = |at| words::moment_within(at, report.period);
            for cause in daemon.restarts.causes.iter().take(LINES_MAX) {
                self.wrapped("  ", &format!("{}x {}", cause.count, cause.cause));
            }
            if let Some(last) = daemon.restarts.newest.first() {
                let what = if last.gave_up { "gave up" } else { "last restart" };
                self.wrapped("  ", &format!("{what}: {}", at(last.at)));
            }
            for failure in daemon.health_failures.newest.iter().take(LINES_MAX.min(2)) {
                self.wrapped("  ", &format!("probe {}: {}", at(failure.at), failure.reason));
            }
            if let Some(slowest) = daemon.slowest_starts.first() {
                self.wrapped("  ", &format!("slowest start: {}", words::duration(slowest.took_ms)));
            }
        }
    }

    /// Whether there was room for it.
    fn table(&mut self, header: &[&str], rows: Vec<Vec<Field>>, right: &[usize]) -> bool {
        let length = |text: &str| text.chars().count();
        let mut widths: Vec<usize> = header.iter().map(|name| length(name)).collect();
        for row in &rows {
            row.iter().zip(&mut widths).for_each(|((text, _), width)| *width = (*width).max(length(text)));
        }
        // Names give way first.
        let all: usize = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let above = all.saturating_sub(self.columns);
        if above > widths[0].saturating_sub(NAME_COLUMNS) {
            return false;
        }
        widths[0] -= above;
        let header = header.iter().map(|name| ((*name).to_owned(), Tone::Dim)).collect();
        for row in std::iter::once(header).chain(rows) {
            let mut line = String::new();
            for (index, (text, tone)) in row.iter().enumerate() {
                let text = shortened(&harmless(text), widths[index]);
                let padding = " ".repeat(widths[index] - length(&text));
                let painted = tone.paint(&text, self.color);
                let is_last = index + 1 == row.len();
                line += &match right.contains(&index) {
                    true => padding + &painted,
                    false if is_last => painted,
                    false => painted + &padding,
                };
                line += if is_last { "" } else { "  " };
            }
            self.text += line.trim_end();
            self.text.push('\n');
        }
        true
    }

    fn titled(&mut self, title: &str) {
        self.toned("", title, Tone::Bold);
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn wrapped(&mut self, indent: &str, text: &str) {
        self.toned(indent, text, Tone::Plain);
    }

    /// A text over as many lines as it takes, each after the first further in.
    fn toned(&mut self, indent: &str, text: &str, tone: Tone) {
        let deeper = format!("{}  ", " ".repeat(indent.chars().count()));
        let mut before = indent.to_owned();
        for line in folded(&harmless(text), self.columns, indent.chars().count(), deeper.len()) {
            self.text += &before;
            self.text += &tone.paint(&line, self.color);
            self.text.push('\n');
            before.clone_from(&deeper);
        }
    }
}

fn available(daemon: &DaemonReport) -> String {
    match daemon.availability.percent {
        None if daemon.availability.off_ms > 0 => "stopped".to_owned(),
        percent => words::percent_or_unknown(percent),
    }
}

const fn tone(grade: Grade) -> Tone {
    match grade {
        Grade::Unknown => Tone::Dim,
        Grade::Good => Tone::Good,
        Grade::Shaky => Tone::Warn,
        Grade::Bad => Tone::Bad,
    }
}

/// A daemon's course: the lowest of what falls together stands for it.
fn course(daemon: &DaemonReport) -> String {
    let steps = daemon.series.up.len();
    let cell = |index: usize| {
        let (from, to) = (index * steps / COURSE_CELLS, (index + 1) * steps / COURSE_CELLS);
        let up = daemon.series.up.get(from..to).unwrap_or_default();
        let lowest = up.iter().copied().flatten().reduce(f32::min);
        match lowest {
            Some(up) if up >= 0.999 => '█',
            Some(up) if up >= 0.9 => '▆',
            Some(up) if up >= 0.5 => '▄',
            Some(_) => '▁',
            None if daemon.series.off.get(from..to).is_some_and(|off| off.contains(&true)) => '-',
            None => ' ',
        }
    };
    (0..COURSE_CELLS).map(cell).collect()
}

fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept: String = text.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

/// Words over lines; one that fits no line is cut.
fn folded(text: &str, columns: usize, first_indent: usize, next_indent: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let room = |lines: &[String]| {
        let indent = if lines.len() == 1 { first_indent } else { next_indent };
        columns.saturating_sub(indent).max(1)
    };
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        loop {
            let space = room(&lines);
            let Some(line) = lines.last_mut() else { break };
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + rest.len() <= space {
                line.push_str(if gap > 0 { " " } else { "" });
                line.extend(rest);
                break;
            }
            if used == 0 {
                line.extend(rest.drain(..space));
            }
            lines.push(String::new());
        }
    }
    lines
}
