//! `bench gateway`: what the way through queen costs, beside the direct way and nginx as a plain proxy, with a worker that
//! costs nothing.

mod load;
mod nginx;
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use rbee_tests::mock::{MockChain, SLOTS};

use crate::effort::{Effort, allow_many_files, pss_kib};
use load::{Asked, Held, closed_loop, streams};
use nginx::Nginx;
use table::{Memory, Row};

const AT_ONCE: Asked = Asked { stream: false, tokens: 16, pace: 0 };
const AT_ONCE_STREAMED: Asked = Asked { stream: true, tokens: 16, pace: 0 };
/// Streams that are only held: slow, so that memory alone is seen.
const HELD: Asked = Asked { stream: true, tokens: 1_000_000, pace: 1 };

/// What is measured, and how often.
#[derive(Debug, Args)]
pub struct Options {
    /// How many times each way is measured, in turn with the others
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Clients that ask again and again
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Streams at 50 tokens a second
    #[arg(long, default_value_t = 200)]
    streams: usize,
    /// Open streams whose memory is measured
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1000])]
    held: Vec<usize>,
    /// Parts: memory, once, paced
    #[arg(long, value_delimiter = ',', default_values = ["memory", "once", "paced"])]
    parts: Vec<String>,
}

/// One way, and whose processor time is taken on it.
struct Way {
    name: &'static str,
    to: SocketAddr,
    pids: Vec<u32>,
}

pub fn run(options: &Options) -> Result<()> {
    allow_many_files()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let has = |part: &str| options.parts.iter().any(|wanted| wanted == part);
    let memory = if has("memory") { memory(options).await? } else { Vec::new() };
    let chain = MockChain::up("", "");
    let worker = chain.worker();
    let nginx = Nginx::start(worker);
    let mut ways = vec![
        Way { name: "direct", to: worker, pids: Vec::new() },
        Way { name: "queen", to: chain.queen(), pids: vec![chain.queen_pid()] },
    ];
    match &nginx {
        Ok(nginx) => ways.push(Way { name: "nginx", to: nginx.address, pids: nginx.pids() }),
        Err(error) => table::skipped(&format!("nginx: skipped, {error:#}")),
    }
    for way in &ways {
        closed_loop(way.to, AT_ONCE, options.clients, Duration::from_secs(1)).await?;
    }
    let names: Vec<_> = ways.iter().map(|way| way.name).collect();
    let mut rows = Vec::new();
    if has("once") {
        rows.extend(once(options, &ways, "one body", AT_ONCE).await?);
        rows.extend(once(options, &ways, "16 events", AT_ONCE_STREAMED).await?);
    }
    if has("paced") {
        rows.extend(paced(options, &ways).await?);
    }
    table::print(&names, &rows, &memory, options.runs);
    if let Ok(nginx) = nginx {
        table::skipped(&nginx.said());
    }
    chain.down();
    Ok(())
}

/// Answers at once: how many a second, how long one takes alone, what it costs the proxy.
async fn once(options: &Options, ways: &[Way], what: &str, asked: Asked) -> Result<Vec<Row>> {
    let time = Duration::from_secs(options.seconds);
    let mut rate = Row::new(format!("requests/s, {} clients, {what}", options.clients), ways.len());
    let mut cpu = Row::new(format!("  processor µs a request, {what}"), ways.len());
    let [mut p50, mut p99] = [50, 99].map(|p| Row::added(format!("one client, {what}, µs, p{p}"), ways.len()));
    for run in 0..options.runs {
        for way in in_turn(ways, run) {
            let before = Effort::of(&ways[way].pids);
            let times = closed_loop(ways[way].to, asked, options.clients, time).await?;
            let spent = Effort::of(&ways[way].pids).since(before);
            rate.add(way, times.len() as f64 / time.as_secs_f64());
            cpu.add(way, spent.cpu_ns as f64 / 1e3 / times.len() as f64);
            let alone = closed_loop(ways[way].to, asked, 1, time / 2).await?;
            p50.add(way, alone.percentile(50));
            p99.add(way, alone.percentile(99));
        }
        table::progress(&format!("{what}: {} of {}", run + 1, options.runs));
    }
    Ok(vec![rate, cpu, p50, p99])
}

/// Streams at the pace of a model: how long each token is on its way.
async fn paced(options: &Options, ways: &[Way]) -> Result<Vec<Row>> {
    let tokens = usize::try_from(options.seconds)? * 50 + 100;
    let asked = Asked { stream: true, tokens, pace: 50 };
    let title = format!("token on its way, {} streams at 50/s", options.streams);
    let [mut p50, mut p99] = [50, 99].map(|p| Row::added(format!("{title}, µs, p{p}"), ways.len()));
    let mut cpu = Row::new("  processor µs a token".to_owned(), ways.len());
    for run in 0..options.runs {
        for way in in_turn(ways, run) {
            let before = Effort::of(&ways[way].pids);
            let times = streams(ways[way].to, asked, options.streams).await?;
            let spent = Effort::of(&ways[way].pids).since(before);
            p50.add(way, times.percentile(50));
            p99.add(way, times.percentile(99));
            cpu.add(way, spent.cpu_ns as f64 / 1e3 / (options.streams * tokens) as f64);
        }
        table::progress(&format!("streams: {} of {}", run + 1, options.runs));
    }
    Ok(vec![p50, p99, cpu])
}

/// Each goes first as often as the others.
fn in_turn(ways: &[Way], run: usize) -> impl Iterator<Item = usize> {
    let count = ways.len();
    (0..count).map(move |at| (at + run) % count)
}

/// What queen takes with so many streams open; each time another queen, because freed memory is not seen as free.
async fn memory(options: &Options) -> Result<Vec<Memory>> {
    let mut found: Vec<Memory> = options.held.iter().map(|streams| Memory::new(*streams)).collect();
    for run in 0..options.runs {
        for memory in &mut found {
            let replicas = memory.streams.div_ceil(SLOTS);
            let chain = MockChain::up("", &format!("replicas = {replicas}\n"));
            let queen = [chain.queen_pid()];
            // Everything that is made at a first request is there, and connections for a few.
            closed_loop(chain.queen(), AT_ONCE_STREAMED, 8, Duration::from_secs(1)).await?;
            let before = pss_kib(&queen)?;
            let mut held = Held::open(chain.queen(), HELD, memory.streams).await?;
            let open = pss_kib(&queen)?;
            ensure!(held.count() == memory.streams, "{} of {} streams are open", held.count(), memory.streams);
            memory.add(before as f64, open as f64);
            drop(held);
            chain.down();
        }
        table::progress(&format!("memory: {} of {}", run + 1, options.runs));
    }
    Ok(found)
}
