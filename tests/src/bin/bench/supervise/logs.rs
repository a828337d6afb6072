//! What comes out of a child, and what of it stands in its log: whole lines, each once, none missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rbee_tests::clock::now_ns;

use super::child::Kind;
use super::measure::{self, PATIENCE};
use super::scene::Scene;
use super::system::{Plan, System};
use crate::effort::Effort;
use crate::sample::Sample;

/// Lines of 100 bytes.
pub const LINES: u64 = 2_000_000;
/// A log that has not grown for so long will not grow any more.
const STILL: Duration = Duration::from_secs(2);

/// What one child's log says of its lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Account {
    /// By pid: how many times each number was found.
    counts: BTreeMap<u32, Vec<u8>>,
    /// Lines that are not as the child writes them.
    pub torn: usize,
}

impl Account {
    /// Reads all files of one child's log.
    pub fn of(system: &dyn System, scene: &Scene, index: usize) -> Result<Self> {
        let mut account = Self::default();
        for path in files(system, scene, index) {
            let file = fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut reader = BufReader::with_capacity(1 << 20, file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                account.add(&line, index);
                line.clear();
            }
        }
        Ok(account)
    }

    fn add(&mut self, line: &[u8], index: usize) {
        let Some((pid, number)) = parse(line, index) else {
            self.torn += 1;
            return;
        };
        let counts = self.counts.entry(pid).or_default();
        if counts.len() <= number {
            counts.resize(number + 1, 0);
        }
        counts[number] = counts[number].saturating_add(1);
    }

    /// Lines of `pid` that are missing of `written`, or before the last one found where that is not known.
    pub fn missing(&self, pid: u32, written: Option<usize>) -> usize {
        let counts = self.counts.get(&pid).map(Vec::as_slice).unwrap_or_default();
        let gaps = counts.iter().filter(|count| **count == 0).count();
        gaps + written.unwrap_or_default().saturating_sub(counts.len())
    }

    /// Lines that are there more than once.
    pub fn doubled(&self) -> usize {
        self.counts.values().flatten().filter(|count| **count > 1).count()
    }
}

/// `… line INDEX PID NUMBER xxx… end`; whatever stands before it is the supervisor's.
fn parse(line: &[u8], index: usize) -> Option<(u32, usize)> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let start = text.len().checked_sub(99)?;
    let mut words = text.get(start..)?.strip_prefix("line ")?.split(' ');
    let found = words.next()?.parse::<usize>().ok()?;
    let (pid, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (padding, end) = (words.next()?, words.next()?);
    (found == index && end == "end" && words.next().is_none() && padding.bytes().all(|byte| byte == b'x'))
        .then_some((pid, number))
}

fn files(system: &dyn System, scene: &Scene, index: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(system.log_folder(scene, index)).into_iter().flatten().flatten();
    entries
        .filter(|entry| system.is_log(&entry.file_name().to_string_lossy(), index))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

fn bytes(system: &dyn System, scene: &Scene, index: usize) -> u64 {
    files(system, scene, index).iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum()
}

/// Waits until no child's log grows any more.
pub fn settled(system: &dyn System, scene: &Scene, count: usize) {
    let sum = || (0..count).map(|index| bytes(system, scene, index)).sum::<u64>();
    let mut seen = (sum(), Instant::now());
    while seen.1.elapsed() < STILL {
        thread::park_timeout(Duration::from_millis(20));
        let now = sum();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
    }
}

/// One child that writes as fast as it can.
#[derive(Debug, Default, Clone)]
pub struct Throughput {
    pub mb_per_s: Sample,
    pub cpu_s_per_gb: Sample,
    pub lost: Sample,
    pub torn: Sample,
}

pub fn flood(system: &dyn System, scene: &mut Scene, figures: &mut Throughput) -> Result<()> {
    let lines = LINES.to_string();
    let mut plan = Plan::new(1, &["flood", &lines]);
    plan.capture = true;
    let began = now_ns();
    let pids = measure::start(system, scene, &plan, None)?;
    // What it took up to now is the start's.
    let before = Effort::of(&scene.supervisors());
    let written = scene.hear_all(Kind::Written, 1, PATIENCE)?;
    let last = written.values().map(|told| told.at_ns).max().unwrap_or(began);
    settled(system, scene, 1);
    let spent = Effort::of(&scene.supervisors()).since(before);
    let gigabytes = LINES as f64 * 100.0 / 1e9;
    figures.mb_per_s.add(gigabytes * 1e3 / ((last - began) as f64 / 1e9));
    figures.cpu_s_per_gb.add(spent.cpu_ns as f64 / 1e9 / gigabytes);
    let account = Account::of(system, scene, 0)?;
    figures.lost.add(account.missing(pids[0], Some(usize::try_from(LINES)?)) as f64);
    figures.torn.add((account.torn + account.doubled()) as f64);
    measure::stop(system, scene, &plan, &pids)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> String {
        let head = format!("line 3 77 {number} ");
        format!("{head}{} end\n", "x".repeat(95 - head.len()))
    }

    #[test]
    fn lines_are_counted_whatever_stands_before_them() {
        let mut account = Account::default();
        for text in [line(0), format!("2026-01-01T00:00:00.000Z out {}", line(1)), line(3), line(3)] {
            account.add(text.as_bytes(), 3);
        }
        assert_eq!((account.torn, account.doubled()), (0, 1));
        assert_eq!((account.missing(77, None), account.missing(77, Some(6)), account.missing(1, Some(2))), (1, 3, 2));
    }

    #[test]
    fn what_is_not_a_whole_line_is_torn() {
        let mut account = Account::default();
        let whole = line(5);
        for text in [
            &whole[1..],
            &whole[..40],
            whole.trim_end(),
            &whole.replace("xx", "xy"),
            &whole.replace("line 3", "line 4"),
        ] {
            account.add(text.as_bytes(), 3);
        }
        assert_eq!(account, Account { torn: 5, ..Account::default() });
    }
}
