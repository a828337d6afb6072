//! Every line that was written stands in the logs once: counted over all files of a worker's log.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::home::Home;

use super::work::TALKERS;

/// Counts the lines of all talkers. `is_over`: they were stopped in order, so the last line is there too.
pub fn count(home: &Home, is_over: bool) -> Result<usize> {
    TALKERS.iter().map(|name| of_one(home, name, is_over).with_context(|| format!("the log of {name}"))).sum()
}

fn of_one(home: &Home, name: &str, is_over: bool) -> Result<usize> {
    let folder = home.path().join("state/logs/workers");
    let mut seen: Vec<u8> = Vec::new();
    let mut stops = 0;
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with(&format!("{name}.0.")) {
            continue;
        }
        let text = match fs::read_to_string(entry.path()) {
            // Rotated between the look and the read: counting again later is enough.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_over => return Ok(0),
            text => text.with_context(|| format!("cannot read {file}"))?,
        };
        // While a hive is dead or at work, the last line may be half there.
        let whole = if is_over { text.as_str() } else { text.rsplit_once('\n').map_or("", |(whole, _)| whole) };
        for line in whole.lines() {
            match parse(line) {
                Some(Line::Tick(number)) => {
                    if seen.len() <= number {
                        seen.resize(number + 1, 0);
                    }
                    seen[number] = seen[number].saturating_add(1);
                }
                Some(Line::Stopping) => stops += 1,
                None => anyhow::bail!("a torn line in {file}: {line:?}"),
            }
        }
    }
    let numbers = |wanted: fn(u8) -> bool| -> Vec<usize> {
        seen.iter().enumerate().filter(|(_, count)| wanted(**count)).map(|(number, _)| number).collect()
    };
    let (missing, doubled) = (numbers(|count| count == 0), numbers(|count| count > 1));
    ensure!(doubled.is_empty() || !is_over, "{} lines are there twice: {}", doubled.len(), some(&doubled));
    ensure!(
        missing.is_empty() || !is_over,
        "{} lines are missing of {}: {}",
        missing.len(),
        seen.len(),
        some(&missing)
    );
    ensure!(!is_over || stops == 1, "its last line stands {stops} times in its log");
    Ok(seen.len())
}

enum Line {
    Tick(usize),
    Stopping,
}

/// `TIME out tick NUMBER`, `TIME out stopping`.
fn parse(line: &str) -> Option<Line> {
    let (time, rest) = line.split_once(" out ")?;
    if time.len() != "2026-01-01T00:00:00.000Z".len() || !time.ends_with('Z') {
        return None;
    }
    if rest == "stopping" { Some(Line::Stopping) } else { rest.strip_prefix("tick ")?.parse().ok().map(Line::Tick) }
}

fn some(numbers: &[usize]) -> String {
    let shown: Vec<String> = numbers.iter().take(10).map(ToString::to_string).collect();
    shown.join(", ")
}
