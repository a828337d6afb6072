//! What was measured, for people: the median of each figure and its ratio to the bare loop; then how far the runs lie apart.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool: results there, progress here")]

use super::Measured;
use super::leftovers::Leftovers;
use super::measure::Figures;
use super::systems::BARE;
use crate::sample::Sample;

type Figure = (&'static str, fn(&Figures) -> &Sample);

const FIGURES: [Figure; 9] = [
    ("start-all, ms", |figures| &figures.start_ms),
    ("crash to restart, ms", |figures| &figures.restart_ms),
    ("stop-all, ms", |figures| &figures.stop_ms),
    ("stop-all, TERM ignored, ms*", |figures| &figures.kill_ms),
    ("status, ms", |figures| &figures.status_ms),
    ("memory, PSS KiB", |figures| &figures.pss_kib),
    ("processes", |figures| &figures.processes),
    ("CPU at rest, ms", |figures| &figures.idle_cpu_ms),
    ("switches at rest", |figures| &figures.idle_switches),
];
/// Times the bare loop, for these rows at 100 children and more.
const RATIO_MAX: f64 = 3.0;

pub fn progress(system: &str, what: &str) {
    eprintln!("  {system}: {what}");
}

pub fn lives(measured: &[Measured], at: usize, count: usize) {
    head(&format!("{count} children: median, × bare loop"), measured);
    for (name, figure) in FIGURES {
        let bare = bare(measured).map(|bare| figure(&bare.figures[at]));
        row(name, measured.iter().map(|one| with_ratio(figure(&one.figures[at]), bare)));
    }
    head("min … max", measured);
    for (name, figure) in FIGURES {
        row(name, measured.iter().map(|one| range(figure(&one.figures[at]))));
    }
    println!("* beyond the stop timeout of 1 s\n");
}

/// Where rbee is above what was asked of it, or behind somebody.
pub fn targets(measured: &[Measured], counts: &[usize]) {
    let (Some(bare), Some(rbee)) = (bare(measured), measured.iter().find(|one| one.system.name() == "rbee")) else {
        return;
    };
    println!("rbee beside what is asked of it:");
    for (at, count) in counts.iter().enumerate() {
        for (name, figure) in FIGURES.iter().filter(|(name, _)| *name != "processes") {
            let own = figure(&rbee.figures[at]);
            if own.is_empty() {
                continue;
            }
            let limit = match *name {
                "start-all, ms" | "crash to restart, ms" | "stop-all, ms" if *count >= 100 => {
                    Some(figure(&bare.figures[at]).median() * RATIO_MAX)
                }
                "memory, PSS KiB" if *count == 100 => Some(8.0 * 1024.0),
                "memory, PSS KiB" if *count == 1000 => Some(13.9 * 1024.0),
                "status, ms" if *count == 1000 => Some(10.0),
                _ => None,
            };
            if let Some(limit) = limit.filter(|limit| own.median() > *limit) {
                println!("  {count}: {name}: {} is above {}", number(own.median()), number(limit));
            }
            let peers = measured.iter().filter(|one| !matches!(one.system.name(), "rbee" | BARE));
            for peer in peers {
                let theirs = figure(&peer.figures[at]);
                if !theirs.is_empty() && theirs.median() < own.median() {
                    let (theirs, own) = (number(theirs.median()), number(own.median()));
                    println!("  {count}: {name}: {own} is behind {} ({theirs})", peer.system.name());
                }
            }
        }
    }
    println!();
}

pub fn floods(measured: &[Measured]) {
    head(&format!("one child writes {} MB: median, × bare loop", super::logs::LINES / 10_000), measured);
    let bare = bare(measured).map(|bare| &bare.flood);
    row("MB/s", measured.iter().map(|one| with_ratio(&one.flood.mb_per_s, bare.map(|bare| &bare.mb_per_s))));
    let cpu = |one: &Measured| with_ratio(&one.flood.cpu_s_per_gb, bare.map(|bare| &bare.cpu_s_per_gb));
    row("CPU s per GB", measured.iter().map(cpu));
    row("lines lost", measured.iter().map(|one| text(&one.flood.lost)));
    row("lines torn or doubled", measured.iter().map(|one| text(&one.flood.torn)));
    println!();
}

pub fn leftovers(measured: &[Measured]) {
    // The bare loop promises nothing here.
    let measured: Vec<&Measured> = measured.iter().filter(|one| one.system.name() != BARE).collect();
    head_of("what is left", measured.iter().map(|one| one.system.name()));
    let of = |count: fn(&Leftovers) -> usize| {
        measured
            .iter()
            .map(move |one| one.leftovers.as_ref().map_or_else(|| "–".to_owned(), |left| count(left).to_string()))
    };
    row(&format!("after stop, of {} processes", Leftovers::trees()), of(|left| left.after_stop));
    println!("after SIGKILL of all of the system and a new start, of {} children:", Leftovers::writers());
    row("  lost", of(|left| left.lost));
    row("  running twice", of(|left| left.duplicated));
    row("  restarted", of(|left| left.restarted));
    row("  lines missing", of(|left| left.lines_missing));
    row("  lines torn", of(|left| left.lines_torn));
    row("  lines doubled", of(|left| left.lines_doubled));
    println!();
}

pub fn notes(notes: &[String]) {
    notes.iter().for_each(|note| println!("{note}"));
}

fn bare(measured: &[Measured]) -> Option<&Measured> {
    measured.iter().find(|one| one.system.name() == BARE)
}

fn head(title: &str, measured: &[Measured]) {
    head_of(title, measured.iter().map(|one| one.system.name()));
}

fn head_of(title: &str, names: impl Iterator<Item = &'static str>) {
    println!("{title}");
    row("", names.map(str::to_owned));
}

fn row(name: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!(" {cell:>18}")).collect();
    println!("{name:<28}{cells}");
}

fn with_ratio(sample: &Sample, bare: Option<&Sample>) -> String {
    if sample.is_empty() {
        return "–".to_owned();
    }
    let ratio = bare.filter(|bare| bare.median() > 0.0).map(|bare| sample.median() / bare.median());
    let ratio = ratio.map(|ratio| format!(" {:>5}×", number(ratio))).unwrap_or_default();
    format!("{}{ratio}", number(sample.median()))
}

fn text(sample: &Sample) -> String {
    if sample.is_empty() { "–".to_owned() } else { number(sample.median()) }
}

fn range(sample: &Sample) -> String {
    sample.range().map_or_else(|| "–".to_owned(), |(min, max)| format!("{} … {}", number(min), number(max)))
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
