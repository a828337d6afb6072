//! One system at one number of children: what it takes to start, keep, ask and stop them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbee_tests::clock::now_ns;
use rbee_tests::processes;
use rustix::process::Signal;

use super::child::Kind;
use super::scene::{Scene, Watch};
use super::system::{Plan, System};
use crate::effort::{Effort, pss_kib};
use crate::sample::Sample;

/// No start or stop of any system takes longer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// s6 and runit pause before they restart one that ran for less than a second: none is killed that young.
const OLD_ENOUGH: Duration = Duration::from_millis(1200);
const CRASHES: usize = 10;
const QUESTIONS: usize = 20;
/// A system that takes this long to answer is asked fewer times.
const ASKING_MAX: Duration = Duration::from_secs(4);

/// All figures of one system at one number of children; empty where there is none.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub start_ms: Sample,
    pub restart_ms: Sample,
    pub pss_kib: Sample,
    pub processes: Sample,
    pub idle_cpu_ms: Sample,
    pub idle_switches: Sample,
    pub status_ms: Sample,
    pub stop_ms: Sample,
    pub kill_ms: Sample,
}

/// One life: start, crashes, memory, status, idle time (if any), stop.
pub fn life(system: &dyn System, scene: &mut Scene, plan: &Plan, idle: Duration, figures: &mut Figures) -> Result<()> {
    let mut pids = start(system, scene, plan, Some(figures))?;
    thread::park_timeout(OLD_ENOUGH);
    crashes(scene, &mut pids, figures)?;
    // Whatever follows a restart has happened by then, and is no part of rest.
    thread::park_timeout(OLD_ENOUGH);
    let supervisors = scene.supervisors();
    figures.processes.add(supervisors.len() as f64);
    figures.pss_kib.add(pss_kib(&supervisors)? as f64);
    ask(system, scene, plan, figures)?;
    if !idle.is_zero() {
        thread::park_timeout(OLD_ENOUGH);
        let before = Effort::of(&supervisors);
        thread::park_timeout(idle);
        let spent = Effort::of(&supervisors).since(before);
        figures.idle_cpu_ms.add(spent.cpu_ns as f64 / 1e6);
        figures.idle_switches.add(spent.switches as f64);
    }
    let took = stop(system, scene, plan, &pids)?;
    figures.stop_ms.add(took.as_secs_f64() * 1e3);
    Ok(())
}

/// Starts it; each child's pid, when all have said that they run.
pub fn start(system: &dyn System, scene: &mut Scene, plan: &Plan, figures: Option<&mut Figures>) -> Result<Vec<u32>> {
    system.prepare(scene, plan)?;
    begin(system, scene, plan, figures)
}

/// As [`start`], of what is prepared.
pub fn begin(system: &dyn System, scene: &mut Scene, plan: &Plan, figures: Option<&mut Figures>) -> Result<Vec<u32>> {
    let began = now_ns();
    let mut command = system.command(scene, plan);
    scene.start(&mut command)?;
    let born = scene.hear_all(Kind::Born, plan.count, PATIENCE);
    let born = born.with_context(|| format!("{} said: {}", system.name(), scene.said()))?;
    let last = born.values().map(|told| told.at_ns).max().unwrap_or(began);
    if let Some(figures) = figures {
        figures.start_ms.add((last - began) as f64 / 1e6);
    }
    let mut pids = vec![0; plan.count];
    for told in born.values() {
        *pids.get_mut(told.index).context("a child of another scene")? = told.pid;
    }
    Ok(pids)
}

/// SIGKILL to one child after the other; how long until its successor runs.
fn crashes(scene: &mut Scene, pids: &mut [u32], figures: &mut Figures) -> Result<()> {
    // Of few children each is killed more than once, and has to grow old first.
    let rounds = if pids.len() < CRASHES / 2 { 3 } else { 1 };
    for round in 0..rounds {
        if round > 0 {
            thread::park_timeout(OLD_ENOUGH);
        }
        // Spread over all of them.
        let step = (pids.len() / CRASHES).max(1);
        for index in (0..pids.len()).step_by(step).take(CRASHES) {
            let killed = now_ns();
            ensure!(processes::send(pids[index], Signal::KILL), "child {index} is gone by itself");
            let born = scene.hear_all(Kind::Born, 1, PATIENCE)?;
            let told = born.get(&index).context("another child was restarted")?;
            figures.restart_ms.add((told.at_ns - killed) as f64 / 1e6);
            pids[index] = told.pid;
        }
    }
    Ok(())
}

fn ask(system: &dyn System, scene: &Scene, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let began = Instant::now();
    for _ in 0..QUESTIONS {
        let asked = Instant::now();
        let Some(answer) = system.status(scene, plan) else { return Ok(()) };
        figures.status_ms.add(asked.elapsed().as_secs_f64() * 1e3);
        let up = answer.with_context(|| format!("{} did not tell its status", system.name()))?;
        ensure!(up == plan.count, "{}: {up} of {} run", system.name(), plan.count);
        if began.elapsed() > ASKING_MAX {
            break;
        }
    }
    Ok(())
}

/// Stops all; the time until no child and nothing of the system is left.
pub fn stop(system: &dyn System, scene: &mut Scene, plan: &Plan, pids: &[u32]) -> Result<Duration> {
    let mut watch = Watch::on(&[pids, &scene.supervisors()].concat())?;
    let began = Instant::now();
    system.stop(scene, plan)?;
    let left = watch.until_gone(began + PATIENCE, |_| {})?;
    ensure!(left == 0, "{}: {left} processes do not end; it said: {}", system.name(), scene.said());
    Ok(began.elapsed())
}

/// Children that ignore SIGTERM: how much longer than the timeout they are there.
pub fn stubborn(system: &dyn System, scene: &mut Scene, count: usize, figures: &mut Figures) -> Result<()> {
    let mut plan = Plan::new(count, &["ignore"]);
    plan.stop_timeout_ms = 1000;
    let pids = start(system, scene, &plan, None)?;
    thread::park_timeout(OLD_ENOUGH);
    let took = stop(system, scene, &plan, &pids)?;
    figures.kill_ms.add(took.as_secs_f64() * 1e3 - 1000.0);
    Ok(())
}
