//! What is left where nothing may be: processes after a stop; lost, doubled and restarted children and damaged logs after the
//! supervisor was killed and started again.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rbee_tests::processes;
use rustix::process::Signal;

use super::child::{Kind, Told};
use super::logs::{self, Account};
use super::measure::{self, PATIENCE};
use super::scene::{Scene, Watch};
use super::system::{Plan, System};

const TREES: usize = 3;
const RELATIVES: usize = 3;
const WRITERS: usize = 10;
const PAUSE_US: &str = "500";
/// Whatever a system does after its start, it has done by then.
const SETTLED: Duration = Duration::from_secs(3);
const STOPPED: Duration = Duration::from_secs(12);

/// What was left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leftovers {
    /// Processes after a stop, of `TREES * (1 + RELATIVES)`.
    pub after_stop: usize,
    /// After a kill and a new start: children of which none lives.
    pub lost: usize,
    /// Children that live more than once.
    pub duplicated: usize,
    /// Children whose first process is gone.
    pub restarted: usize,
    pub lines_missing: usize,
    pub lines_torn: usize,
    pub lines_doubled: usize,
}

impl Leftovers {
    pub const fn trees() -> usize {
        TREES * (1 + RELATIVES)
    }

    pub const fn writers() -> usize {
        WRITERS
    }
}

/// Stops children that have children of their own.
pub fn after_stop(system: &dyn System, scene: &mut Scene, found: &mut Leftovers) -> Result<()> {
    let mut plan = Plan::new(TREES, &["tree"]);
    plan.stop_timeout_ms = 1000;
    system.prepare(scene, &plan)?;
    let mut command = system.command(scene, &plan);
    scene.start(&mut command)?;
    hear_relatives(scene)?;
    let pids = scene.children();
    let mut watch = Watch::on(&[pids.as_slice(), &scene.supervisors()].concat())?;
    system.stop(scene, &plan)?;
    // Some systems wait for ever for the output of those they have left.
    watch.until_gone(Instant::now() + STOPPED, |_| {})?;
    found.after_stop = scene.children().len();
    Ok(())
}

fn hear_relatives(scene: &mut Scene) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut heard = 0;
    while heard < TREES * RELATIVES {
        anyhow::ensure!(Instant::now() < deadline, "only {heard} relatives began");
        heard += scene.ear.hear(deadline)?.iter().filter(|told| told.kind == Kind::Relative).count();
    }
    Ok(())
}

/// Kills every process of the system itself, starts it again, stops it.
pub fn after_kill(system: &dyn System, scene: &mut Scene, found: &mut Leftovers) -> Result<()> {
    let plan = Plan::new(WRITERS, &["lines", PAUSE_US]);
    let first = measure::start(system, scene, &plan, None)?;
    thread::park_timeout(SETTLED);
    let supervisors = scene.supervisors();
    let mut watch = Watch::on(&supervisors)?;
    for pid in supervisors {
        processes::send(pid, Signal::KILL);
    }
    watch.until_gone(Instant::now() + PATIENCE, |_| {})?;
    scene.forget_started();
    let mut command = system.command(scene, &plan);
    scene.start(&mut command)?;
    thread::park_timeout(SETTLED);

    let mut told = scene.ear.hear(Instant::now())?;
    let mut alive: BTreeMap<usize, Vec<u32>> = (0..WRITERS).map(|index| (index, Vec::new())).collect();
    let born = told.iter().filter(|told| told.kind == Kind::Born).map(|told| (told.index, told.pid));
    for (index, pid) in first.iter().copied().enumerate().chain(born) {
        if processes::is_alive(pid) {
            alive.entry(index).or_default().push(pid);
        }
    }
    found.lost = alive.values().filter(|pids| pids.is_empty()).count();
    found.duplicated = alive.values().filter(|pids| pids.len() > 1).count();
    found.restarted = first.iter().filter(|pid| !processes::is_alive(**pid)).count();

    let pids: Vec<u32> = alive.into_values().flatten().collect();
    let mut watch = Watch::on(&[pids.as_slice(), &scene.supervisors()].concat())?;
    system.stop(scene, &plan)?;
    watch.until_gone(Instant::now() + STOPPED, |_| {})?;
    // Those it does not know are asked by ourselves, so that they say how many lines they wrote.
    let left = scene.children();
    let mut watch = Watch::on(&left)?;
    for pid in left {
        processes::send(pid, Signal::TERM);
    }
    watch.until_gone(Instant::now() + PATIENCE, |_| {})?;
    told.extend(scene.ear.hear(Instant::now())?);
    count_lines(system, scene, &told, &first, found)
}

fn count_lines(system: &dyn System, scene: &Scene, told: &[Told], first: &[u32], found: &mut Leftovers) -> Result<()> {
    let ended: BTreeMap<u32, i64> =
        told.iter().filter(|told| told.kind == Kind::Ended).map(|told| (told.pid, told.number)).collect();
    logs::settled(system, scene, WRITERS);
    for (index, first) in first.iter().enumerate() {
        let account = Account::of(system, scene, index)?;
        found.lines_torn += account.torn;
        found.lines_doubled += account.doubled();
        let born = told.iter().filter(|told| told.kind == Kind::Born && told.index == index).map(|told| told.pid);
        for pid in born.chain([*first]) {
            let written = ended.get(&pid).and_then(|number| usize::try_from(*number).ok());
            found.lines_missing += account.missing(pid, written);
        }
    }
    Ok(())
}
