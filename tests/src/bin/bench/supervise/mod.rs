//! `bench supervise`: rbee-hive alone beside the physical limit and the supervisors people use, with the same children, in one run.

pub mod bare;
mod child;
mod leftovers;
mod logs;
mod measure;
mod scene;
mod system;
mod systems;
mod table;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tempfile::TempDir;

use child::compile;
use leftovers::Leftovers;
use logs::Throughput;
use measure::Figures;
use scene::Scene;
use system::{Plan, System};

/// What is measured, and how often.
#[derive(Debug, Args)]
pub struct Options {
    /// Numbers of children
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    n: Vec<usize>,
    /// How many times each system is measured, in turn with the others
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Systems beside the bare loop and rbee: s6, runit, supervisord, pm2, or none
    #[arg(long, value_delimiter = ',', default_values = ["s6", "runit", "supervisord", "pm2"])]
    peers: Vec<String>,
    /// Seconds of rest that are watched, once for each number of 100 and more; 0 for none
    #[arg(long, default_value_t = 30)]
    idle: u64,
    /// Parts: life, flood, leftovers
    #[arg(long, value_delimiter = ',', default_values = ["life", "flood", "leftovers"])]
    parts: Vec<String>,
}

/// One system and all that was seen of it.
struct Measured {
    system: Box<dyn System>,
    /// For each number of children.
    figures: Vec<Figures>,
    flood: Throughput,
    leftovers: Option<Leftovers>,
}

pub fn run(options: &Options) -> Result<()> {
    scene::end_all_on_signals()?;
    crate::effort::allow_many_files()?;
    let folder = TempDir::with_prefix("rbee-bench-")?;
    let child = compile(folder.path())?;
    let (mut measured, mut notes) = (Vec::new(), Vec::new());
    for system in systems::all() {
        let name = system.name();
        if name != systems::BARE && name != "rbee" && !options.peers.iter().any(|peer| peer == name) {
            notes.push(format!("{name}: not asked for"));
        } else if let Some(missing) = system.missing() {
            ensure!(name != "rbee", "{missing}");
            notes.push(format!("{name}: skipped, {missing}"));
        } else {
            let figures = vec![Figures::default(); options.n.len()];
            measured.push(Measured { system, figures, flood: Throughput::default(), leftovers: None });
        }
    }
    println!("everybody's files are in {}\n", scene::place().display());
    let has = |part: &str| options.parts.iter().any(|wanted| wanted == part);
    if has("life") {
        for (at, count) in options.n.iter().enumerate() {
            for run in 0..options.runs {
                lives(&mut measured, &child, (at, *count), run, options.idle, &mut notes);
            }
            table::lives(&measured, at, *count);
        }
        table::targets(&measured, &options.n);
    }
    if has("flood") {
        for _ in 0..options.runs {
            each(&mut measured, &child, &mut notes, "flood", |measured, scene| {
                logs::flood(&*measured.system, scene, &mut measured.flood)
            });
        }
        table::floods(&measured);
    }
    if has("leftovers") {
        each(&mut measured, &child, &mut notes, "leftovers after a stop", |measured, scene| {
            let found = measured.leftovers.get_or_insert_default();
            leftovers::after_stop(&*measured.system, scene, found)
        });
        each(&mut measured, &child, &mut notes, "leftovers after a kill", |measured, scene| {
            let found = measured.leftovers.get_or_insert_default();
            leftovers::after_kill(&*measured.system, scene, found)
        });
        table::leftovers(&measured);
    }
    table::notes(&notes);
    ensure!(!notes.iter().any(|note| note.starts_with("rbee:")), "not everything could be measured");
    Ok(())
}

fn lives(
    measured: &mut [Measured],
    child: &std::path::Path,
    (at, count): (usize, usize),
    run: usize,
    idle: u64,
    notes: &mut Vec<String>,
) {
    // Rest is long: watched once, and where there are enough children to tell what they cause.
    let idle = Duration::from_secs(if run == 0 && count >= 100 { idle } else { 0 });
    each(measured, child, notes, &format!("{count} children"), |measured, scene| {
        measure::life(&*measured.system, scene, &Plan::new(count, &[]), idle, &mut measured.figures[at])
    });
    each(measured, child, notes, &format!("{count} children that ignore SIGTERM"), |measured, scene| {
        measure::stubborn(&*measured.system, scene, count, &mut measured.figures[at])
    });
}

/// Each system in turn, in a scene of its own. What fails is noted, and the others go on.
fn each(
    measured: &mut [Measured],
    child: &std::path::Path,
    notes: &mut Vec<String>,
    what: &str,
    mut measure: impl FnMut(&mut Measured, &mut Scene) -> Result<()>,
) {
    for measured in measured {
        table::progress(measured.system.name(), what);
        let done = Scene::new(child).context("no scene").and_then(|mut scene| measure(measured, &mut scene));
        if let Err(error) = done {
            notes.push(format!("{}: {what}: {error:#}", measured.system.name()));
        }
    }
}
