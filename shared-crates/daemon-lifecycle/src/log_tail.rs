//! The last lines of a log file, read from its end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

const BLOCK_BYTES: u64 = 64 * 1024;

/// However long the lines are, no more than this is read.
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The last `lines` lines that begin at or after offset `from`, oldest first. A file that is not there has none.
pub(crate) fn last_lines(path: &Path, lines: usize, from: u64) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let end = file.metadata()?.len();
    let from = from.max(end.saturating_sub(READ_BYTES_MAX)).min(end);
    let mut tail: Vec<u8> = Vec::new();
    let mut start = end;
    while start > from && tail.iter().filter(|byte| **byte == b'\n').count() <= lines {
        let block_start = start.saturating_sub(BLOCK_BYTES).max(from);
        let mut block = vec![0; usize::try_from(start - block_start).unwrap_or(0)];
        file.seek(SeekFrom::Start(block_start))?;
        file.read_exact(&mut block)?;
        block.append(&mut tail);
        tail = block;
        start = block_start;
    }
    let text = String::from_utf8_lossy(&tail);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert!(last_lines(&path, 5, 0).unwrap().is_empty());
        let text: String = (0..50_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(last_lines(&path, 2, 0).unwrap(), ["line 49998", "line 49999"]);
        assert_eq!(last_lines(&path, 0, 0).unwrap(), Vec::<String>::new());
        assert_eq!(last_lines(&path, 1_000_000, 0).unwrap().len(), 50_000);
        let last_but_one = text.len() as u64 - 22;
        assert_eq!(last_lines(&path, 9, last_but_one).unwrap(), ["line 49998", "line 49999"]);
        assert_eq!(last_lines(&path, 9, u64::MAX).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_last_line_without_newline_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        std::fs::write(&path, "one\ntwo").unwrap();
        assert_eq!(last_lines(&path, 1, 0).unwrap(), ["two"]);
    }
}
