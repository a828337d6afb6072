//! `bench monitor`: what sampling costs a hive, beside the same hive that samples nothing, and how long a day's report takes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use jiff::Timestamp;
use monitoring::{Bounds, History, Sample as Seen};
use rbee_api::Figures;
use rbee_runtime::dirs::Dirs;
use rbee_tests::home::{Home, binary};

use crate::effort::Effort;
use crate::sample::Sample;

/// What `[monitor] interval` is when nobody says otherwise.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(15);
/// More often than that, so that a short look sees many rounds.
const INTERVAL: Duration = Duration::from_millis(150);
const READY_WITHIN: Duration = Duration::from_secs(120);
const REPORTS: usize = 9;

#[derive(Debug, Args)]
pub struct Options {
    /// Workers
    #[arg(long, default_value_t = 100)]
    n: u32,
    /// Looks at each hive, in turn
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Length of a look
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    seconds: u64,
}

/// A hive by itself.
struct Hive {
    process: Child,
    home: Home,
    url: String,
}

impl Hive {
    #[expect(
        clippy::disallowed_methods,
        reason = "a hive that no queen starts, and that is waited for by its figures alone"
    )]
    fn run(home: Home, n: u32, monitor: &str) -> Result<Self> {
        let port = home.hive_port;
        // Each has a child, as many daemons do.
        let config = format!(
            "[hive]\nlisten = \"127.0.0.1:{port}\"\nports = \"0\"\n\n[monitor]\n{monitor}\n\n[worker.idle]\nreplicas = {n}\n\
             command = [\"sh\", \"-c\", \"sleep 100000 & wait\"]\nready = \"started\"\n"
        );
        let file = home.path().join("rbee.toml");
        fs::write(&file, config)?;
        let mut hive = Command::new(binary("rbee-hive"));
        hive.args(["run", "--config"]).arg(&file).env("RBEE_HOME", home.path()).env_remove("RBEE_TOKEN");
        hive.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = hive.spawn()?;
        let hive = Self { process, home, url: format!("http://127.0.0.1:{port}") };
        let until = Instant::now() + READY_WITHIN;
        // It makes the token first of all.
        let is_up = || {
            hive.home.path().join("token").exists()
                && hive.figure("rbee_hive_workers{phase=\"running\"}").is_ok_and(|count| count == u64::from(n))
        };
        while !is_up() {
            ensure!(Instant::now() < until, "the workers did not come up");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(hive)
    }

    fn get(&self, path: &str) -> Result<String> {
        let token = format!("Bearer {}", self.home.token());
        let mut answer = ureq::get(format!("{}{path}", self.url)).header("Authorization", &token).call()?;
        Ok(answer.body_mut().read_to_string()?)
    }

    fn figure(&self, name: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).context("no such figure")?;
        Ok(line.parse::<f64>()? as u64)
    }

    /// Processor time and rounds of samples within so long.
    #[expect(clippy::disallowed_methods, reason = "a look takes its time; it waits for nothing")]
    fn look(&self, length: Duration) -> Result<(Effort, f64)> {
        let pid = [self.process.id()];
        let samples = self.figure("rbee_hive_samples_total")?;
        let before = Effort::of(&pid);
        thread::sleep(length);
        let effort = Effort::of(&pid).since(before);
        Ok((effort, (self.figure("rbee_hive_samples_total")? - samples) as f64))
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        let stop = rustix::process::Pid::from_child(&self.process);
        // It ends in order, and takes its workers along.
        let _ = rustix::process::kill_process(stop, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

pub fn run(options: &Options) -> Result<()> {
    let Options { n, runs, seconds } = *options;
    let build = if cfg!(debug_assertions) { "debug build: an upper bound" } else { "release build" };
    println!("{n} workers of two processes each; median (min … max) of {runs} looks of {seconds} s; {build}\n");
    let home = Home::empty();
    fill_a_day(&home, n)?;
    let sampling = Hive::run(home, n, &format!("interval = \"{}ms\"", INTERVAL.as_millis()))?;
    let silent = Hive::run(Home::empty(), n, "enabled = false")?;
    let (mut with, mut without, mut round) = (Sample::default(), Sample::default(), Sample::default());
    let length = Duration::from_secs(seconds);
    for _ in 0..runs {
        let (idle, _) = silent.look(length)?;
        let (busy, samples) = sampling.look(length)?;
        let rounds = samples / f64::from(n + 1);
        ensure!(rounds > 5.0, "only {rounds} rounds in {seconds} s");
        let ms = |effort: Effort| effort.cpu_ns as f64 / 1e6;
        without.add(ms(idle));
        with.add(ms(busy));
        round.add((ms(busy) - ms(idle)) / rounds);
    }
    let percent = |ms: f64| ms / 1000.0 / INTERVAL_DEFAULT.as_secs_f64() * 100.0;
    println!("processor time, no samples, ms           {without}");
    println!("processor time, every {} ms, ms         {with}", INTERVAL.as_millis());
    println!("a round, ms                              {round}");
    let (_, worst) = round.range().unwrap_or_default();
    println!(
        "at the default interval of {} s:          {:.3} % of a core (worst look {:.3} %)\n",
        INTERVAL_DEFAULT.as_secs(),
        percent(round.median()),
        percent(worst)
    );
    drop(silent);
    let mut report = Sample::default();
    for _ in 0..REPORTS {
        let began = Instant::now();
        let text = sampling.get("/api/v1/reports?period=day")?;
        report.add(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(text.contains("idle/"), "the report knows no worker: {}", text.get(..200).unwrap_or(&text));
    }
    println!("a day's report of {n} workers, ms          {report}");
    Ok(())
}

/// The history of a day that ends now.
fn fill_a_day(home: &Home, n: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let file = Dirs::under(home.path()).hive_history_file();
        let history = History::open(&file, &Bounds::default()).history;
        let names: Vec<Arc<str>> = (0..n).map(|replica| format!("idle/{replica}").into()).collect();
        let rounds = 24 * 3600 / INTERVAL_DEFAULT.as_secs();
        let begin = Timestamp::now() - jiff::SignedDuration::from_hours(24);
        for round in 0..rounds {
            let of = |(name, n): (&Arc<str>, u64)| Seen {
                incarnation: 1,
                running: true,
                healthy: Some(true),
                figures: Figures {
                    cpu_percent: ((round * 7 + n * 13) % 400) as f64 / 3.0,
                    rss_bytes: (3 << 30) + (((round * 7919 + n) % 4096) << 12),
                    threads: 40,
                    ..Figures::default()
                },
                ..Seen::none(Arc::clone(name))
            };
            let samples = names.iter().zip(0u64..).map(of).collect();
            history.add_samples(begin + Duration::from_secs(round) * 15, samples);
            if round % 500 == 0 {
                history.flush().await?;
            }
        }
        history.close().await?;
        Ok(())
    })
}
