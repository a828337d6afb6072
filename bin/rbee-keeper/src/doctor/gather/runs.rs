//! What runs and what is recorded, and our programs themselves.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use daemon_lifecycle::inspect::{self, Condition, LockState, Recorded};
use daemon_lifecycle::{Launch, try_out};
use rbee_runtime::binaries;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::env::Env;
use rbee_runtime::self_check::{OWN_BINARY, judge_file};

use super::super::facts::{LockFact, OrphanFact, ProgramFact, RunFact, Tier};

/// How long a program may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
const VERSION_BYTES_MAX: u64 = 4096;

/// Everything that the run files speak of.
pub(super) fn runs(dirs: &Dirs) -> Vec<RunFact> {
    recorded(dirs).into_iter().map(|(tier, recorded)| fact(tier, recorded)).collect()
}

fn recorded(dirs: &Dirs) -> Vec<(Tier, Recorded)> {
    let of = |tier, dir: PathBuf| {
        let found = inspect::records_in(&dir).unwrap_or_default();
        found.into_iter().map(move |recorded| (tier, recorded))
    };
    let queen = of(Tier::Queen, dirs.run_dir().to_owned());
    queen.chain(of(Tier::Hive, dirs.hives_run_dir())).chain(of(Tier::Worker, dirs.workers_run_dir())).collect()
}

fn fact(tier: Tier, recorded: Recorded) -> RunFact {
    let jump = recorded.started_by_clock_now.zip(recorded.started_at).map(|(now, then)| seconds_between(then, now));
    let not_in_force = recorded.limits_in_force.iter().filter_map(|said| said.strip_suffix(": not in force"));
    let is_alive = recorded.condition == Condition::Alive;
    RunFact {
        tier,
        clock_jump_s: jump.filter(|_| is_alive),
        is_outdated: is_alive && recorded.pid.is_some_and(|pid| is_outdated(tier, pid)),
        limits_not_in_force: if is_alive { not_in_force.map(str::to_owned).collect() } else { Vec::new() },
        name: recorded.unit,
        file: recorded.file,
        pid: recorded.pid,
        condition: recorded.condition,
    }
}

/// From one time to another: negative where the second is earlier.
fn seconds_between(from: SystemTime, to: SystemTime) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match to.duration_since(from) {
        Ok(later) => seconds(later),
        Err(earlier) => -seconds(earlier.duration()),
    }
}

/// Whether another file stands now where a daemon of ours was started from.
fn is_outdated(tier: Tier, pid: u32) -> bool {
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let (Ok(name), Ok(running)) = (std::fs::read_link(&link), std::fs::metadata(&link)) else { return false };
    let name = name.to_string_lossy().into_owned();
    let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
    let is_ours = tier != Tier::Worker || name.ends_with(worker_program());
    is_ours
        && std::fs::metadata(name).is_ok_and(|stands| (stands.dev(), stands.ino()) != (running.dev(), running.ino()))
}

const fn worker_program() -> &'static str {
    "llm-worker-rbee"
}

/// Processes of this installation that belong to no run that is recorded and alive.
pub(super) fn orphans(dirs: &Dirs) -> Vec<OrphanFact> {
    // The processes first: one that is started meanwhile is recorded before it executes anything.
    let marked = inspect::marked_processes().unwrap_or_default();
    let recorded = recorded(dirs);
    let is_known = |process: &inspect::Marked| {
        let mut alive = recorded.iter().filter(|(_, run)| run.condition == Condition::Alive);
        alive.any(|(_, run)| run.is_of_this_run(process))
    };
    let was_known = |process: &inspect::Marked| {
        recorded.iter().find(|(_, run)| run.is_of_this_run(process)).map(|(_, run)| run.unit.clone())
    };
    let of_ours = |process: &inspect::Marked| {
        let env = Env::from_lookup(|name| process.variable(name).map(ToOwned::to_owned));
        !process.is_silent() && Dirs::from_env(&env).is_ok_and(|theirs| theirs.run_dir() == dirs.run_dir())
    };
    let mut found = Vec::new();
    for process in marked.iter().filter(|process| !is_known(process)) {
        // One that asks a question, such as a probe's command, is of no unit.
        let unit = was_known(process).or_else(|| process.unit.clone().filter(|_| of_ours(process)));
        if let Some(unit) = unit.filter(|_| inspect::is_running(process.pid)) {
            found.push(OrphanFact { pid: process.pid, name: process.name.clone(), unit });
        }
    }
    found
}

/// Locks that supervisors hold.
pub(super) fn locks(dirs: &Dirs) -> Vec<LockFact> {
    let of = |tier, dir: PathBuf| {
        let path = dir.join("supervisor.lock");
        match inspect::lock_state(&path) {
            Ok(LockState::Held(holder)) => Some(LockFact { tier, path, holder }),
            _ => None,
        }
    };
    [of(Tier::Hive, dirs.hives_run_dir()), of(Tier::Worker, dirs.workers_run_dir())].into_iter().flatten().collect()
}

/// Our programs, and what each says of itself.
pub(super) async fn programs(config: &Config) -> Vec<ProgramFact> {
    let engines = config.worker.values().any(rbee_runtime::config::WorkerConfig::is_engine);
    let hive = config.starts_hive();
    let here = !config.queen_is_elsewhere();
    let [queen, hive, worker] = [
        (queen_lifecycle::BINARY, config.starts_queen()),
        (hive_lifecycle::BINARY, hive),
        (worker_program(), hive && here && engines),
    ]
    .map(|(name, is_needed)| program(name, is_needed));
    let (queen, hive, worker) = tokio::join!(queen, hive, worker);
    vec![queen, hive, worker]
}

async fn program(name: &'static str, is_needed: bool) -> ProgramFact {
    let path = on_path(binaries::locate(name));
    let refusal = path.as_deref().and_then(|path| judge_file(path, Path::new(OWN_BINARY)).err());
    let version = match &path {
        Some(path) if refusal.is_none() => Some(version(path).await),
        _ => None,
    };
    ProgramFact { name, is_needed, path, refusal: refusal.map(|refusal| refusal.reason), version }
}

/// The file that a bare name stands for.
fn on_path(program: PathBuf) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then_some(program);
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|dir| dir.join(&program)).find(|path| path.is_file())
}

/// What `--version` prints behind the name.
async fn version(path: &Path) -> Result<String, String> {
    let launch = Launch::new(path, ["--version"]);
    let said = try_out(&launch, VERSION_TIMEOUT, VERSION_BYTES_MAX).await.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&said.stdout);
    let version = text.split_whitespace().nth(1).map(str::to_owned);
    version.ok_or_else(|| {
        let stderr = String::from_utf8_lossy(&said.stderr);
        stderr.lines().next().unwrap_or("it says nothing").to_owned()
    })
}
