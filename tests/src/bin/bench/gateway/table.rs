//! What was measured, for people: the median of each figure (min … max), ratios, and what is asked of it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool: results there, progress here")]

use crate::sample::Sample;

/// Asked for, at 200 streams.
const ADDED_P99_US_MAX: f64 = 1000.0;
const RATE_RATIO_MIN: f64 = 0.7;
const KIB_A_STREAM_MAX: f64 = 64.0;

/// One figure on each way; the first is the direct one.
pub struct Row {
    name: String,
    ways: Vec<Sample>,
    /// Beyond the direct way in the same run.
    added: Option<Vec<Sample>>,
    run: Vec<Option<f64>>,
}

impl Row {
    pub fn new(name: String, ways: usize) -> Self {
        Self { name, ways: vec![Sample::default(); ways], added: None, run: vec![None; ways] }
    }

    /// One of which what the way adds is told.
    pub fn added(name: String, ways: usize) -> Self {
        Self { added: Some(vec![Sample::default(); ways]), ..Self::new(name, ways) }
    }

    pub fn add(&mut self, way: usize, value: f64) {
        self.ways[way].add(value);
        self.run[way] = Some(value);
        // A run is complete: what each way adds is taken within it.
        if let Some(values) = self.run.iter().copied().collect::<Option<Vec<f64>>>() {
            if let Some(added) = &mut self.added {
                added.iter_mut().zip(&values).for_each(|(added, value)| added.add(value - values[0]));
            }
            self.run.fill(None);
        }
    }
}

/// Memory of queen, KiB.
pub struct Memory {
    pub streams: usize,
    idle: Sample,
    open: Sample,
    a_stream: Sample,
}

impl Memory {
    pub fn new(streams: usize) -> Self {
        Self { streams, idle: Sample::default(), open: Sample::default(), a_stream: Sample::default() }
    }

    pub fn add(&mut self, idle_kib: f64, open_kib: f64) {
        self.idle.add(idle_kib);
        self.open.add(open_kib);
        self.a_stream.add((open_kib - idle_kib) / self.streams.max(1) as f64);
    }
}

pub fn progress(text: &str) {
    eprintln!("  {text}");
}

pub fn skipped(text: &str) {
    if !text.is_empty() {
        println!("{text}");
    }
}

pub fn print(names: &[&str], rows: &[Row], memory: &[Memory], runs: usize) {
    println!("median (min … max) of {runs} runs; release build; all of it on this machine's cores\n");
    let cells: String = names.iter().map(|name| format!(" {name:>28}")).collect();
    println!("{:<56}{cells} {:>12}", "", "queen/nginx");
    for row in rows {
        line(&row.name, &row.ways);
        if let Some(added) = &row.added {
            line("  added to the direct way", added);
        }
    }
    for memory in memory {
        let Memory { streams, idle, open, a_stream } = memory;
        println!("queen's memory with {streams} open streams, PSS KiB: {open}, before {idle}; a stream {a_stream}");
    }
    println!("\nasked of it:");
    for row in rows {
        match (&row.added, &row.ways[..]) {
            (Some(added), _) if row.name.contains("streams at") && row.name.ends_with("p99") => {
                say("added p99 ≤ 1 ms", &row.name, added[1].median(), added[1].median() <= ADDED_P99_US_MAX);
            }
            (None, [_, queen, nginx]) if row.name.starts_with("requests/s") => {
                let ratio = queen.median() / nginx.median();
                say("≥ 0.7 of nginx", &row.name, ratio, ratio >= RATE_RATIO_MIN);
            }
            _ => {}
        }
    }
    for memory in memory {
        let (name, kib) = (format!("{} open streams", memory.streams), memory.a_stream.median());
        say("≤ 64 KB a stream", &name, kib, kib <= KIB_A_STREAM_MAX);
    }
}

fn line(name: &str, ways: &[Sample]) {
    let cells: String = ways.iter().map(|sample| format!(" {sample:>28}")).collect();
    let ratio = match ways {
        [_, queen, nginx] if nginx.median() != 0.0 => format!("{:.2}×", queen.median() / nginx.median()),
        _ => "–".to_owned(),
    };
    println!("{name:<56}{cells} {ratio:>12}");
}

fn say(target: &str, of: &str, value: f64, met: bool) {
    println!("  {:<4} {target:<20} {value:>8.2}  ({of})", if met { "met" } else { "NOT" });
}
