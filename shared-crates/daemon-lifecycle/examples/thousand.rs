//! What many units cost: `cargo run --release -p daemon-lifecycle --example thousand -- [N] [COMMAND [ARG…]]`
//!
//! Starts N units of a command that runs on (`sleep 1000`), ready once started, and prints what each step took.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::time::{Duration, Instant};

use daemon_lifecycle::{Launch, Phase, Snapshot, StopMode, Supervisor, SupervisorConfig, UnitSpec};

/// How long it is left alone.
const IDLE: Duration = Duration::from_secs(3);

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(1000), |text| text.parse::<usize>())?;
    let program = args.next().unwrap_or_else(|| "sleep".to_owned());
    let mut rest: Vec<String> = args.collect();
    if rest.is_empty() {
        rest.push("1000".to_owned());
    }
    let dir = std::env::temp_dir().join(format!("thousand-{}", std::process::id()));
    let config = SupervisorConfig::new(dir.join("run"), dir.join("logs"));
    let base = pss_kib()?;
    let supervisor = Supervisor::open(config.clone()).await?;
    let names: Vec<String> = (0..count).map(|number| format!("unit{number}.0")).collect();
    let specs = || names.iter().map(|name| spec(name, &program, &rest));

    let at = Instant::now();
    supervisor.apply(specs()).await?;
    tell("declare", at.elapsed(), count)?;
    let declared = pss_kib()?;

    let at = Instant::now();
    for name in &names {
        supervisor.start(name).await?;
    }
    tell("  (wishes)", at.elapsed(), count)?;
    all(&supervisor, count, Phase::Running).await?;
    tell("start all", at.elapsed(), count)?;
    let running = pss_kib()?;
    let each = |kib: u64| kib.saturating_sub(base) as f64 / count as f64;
    say(&format!(
        "PSS: {base} KiB before, {declared} declared ({:.2} a unit), {running} running ({:.2} a unit)",
        each(declared),
        each(running)
    ))?;

    let before = context_switches()?;
    tokio::time::sleep(IDLE).await;
    let of_thread = |(thread, now): (OsString, u64)| now - before.get(&thread).copied().unwrap_or(0);
    let switches: u64 = context_switches()?.into_iter().map(of_thread).sum();
    say(&format!("idle: {switches} context switches in {IDLE:?}, this measurement's own included"))?;

    let mut restarts = Vec::new();
    for name in names.iter().take(50) {
        let pid = supervisor.snapshot()[name].pid.unwrap_or_default();
        let mut changes = supervisor.subscribe();
        let at = Instant::now();
        kill(pid)?;
        changes.wait_for(|units| units[name].phase == Phase::Running && units[name].pid != Some(pid)).await?;
        restarts.push(at.elapsed());
    }
    restarts.sort_unstable();
    say(&format!(
        "crash to restart: median {:?}, worst {:?}",
        restarts[restarts.len() / 2],
        restarts[restarts.len() - 1]
    ))?;

    let at = Instant::now();
    supervisor.detach().await?;
    tell("detach", at.elapsed(), count)?;
    let at = Instant::now();
    let supervisor = Supervisor::open(config).await?;
    tell("find again", at.elapsed(), count)?;
    let at = Instant::now();
    supervisor.apply(specs()).await?;
    all(&supervisor, count, Phase::Running).await?;
    tell("adopt", at.elapsed(), count)?;

    let at = Instant::now();
    let units = supervisor.snapshot();
    let live = units.values().filter(|unit| unit.pid.is_some()).count();
    tell("status", at.elapsed(), live)?;
    drop(units);
    let at = Instant::now();
    supervisor.shutdown(StopMode::Graceful).await?;
    tell("stop all", at.elapsed(), count)?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn spec(name: &str, program: &str, args: &[String]) -> UnitSpec {
    let mut spec = UnitSpec::new(name, Launch::new(program, args.iter().cloned()));
    spec.policy.restart.backoff_min_ms = 0;
    spec.policy.restart.backoff_max_ms = 0;
    spec
}

async fn all(supervisor: &Supervisor, count: usize, phase: Phase) -> Outcome {
    let are = |units: &Snapshot| units.len() == count && units.values().all(|unit| unit.phase == phase);
    supervisor.subscribe().wait_for(are).await?;
    Ok(())
}

fn kill(pid: u32) -> Outcome {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).ok_or("no process")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::KILL)?)
}

/// Of every thread that lives.
fn context_switches() -> Result<HashMap<OsString, u64>, Box<dyn std::error::Error>> {
    let mut of_threads = HashMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let number = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        of_threads.insert(task.file_name(), number.and_then(|number| number.trim().parse().ok()).unwrap_or(0));
    }
    Ok(of_threads)
}

fn pss_kib() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn tell(what: &str, took: Duration, count: usize) -> Outcome {
    say(&format!("{what}: {:.1} ms, {:.3} ms each", took.as_secs_f64() * 1e3, took.as_secs_f64() * 1e3 / count as f64))
}

fn say(text: &str) -> Outcome {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
