//! The last lines of a log file, read from its end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const BLOCK_BYTES: u64 = 64 * 1024;

/// However long the lines are, no more than this is read.
const READ_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The last `lines` lines that begin at or after offset `from`, oldest first. A file that is not there has none.
pub(crate) fn last_lines(path: &Path, lines: usize, from: u64) -> io::Result<Vec<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let end = file.metadata()?.len();
    last_lines_of(&file, lines, from, end)
}

/// The last `lines` lines between the offsets `from` and `end`, oldest first.
pub(crate) fn last_lines_of(file: &File, lines: usize, from: u64, end: u64) -> io::Result<Vec<String>> {
    let from = from.max(end.saturating_sub(READ_BYTES_MAX)).min(end);
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    let mut start = end;
    let mut newlines = 0;
    // One more than the lines: the one before them ends there.
    while start > from && newlines <= lines {
        let block_start = start.saturating_sub(BLOCK_BYTES).max(from);
        let mut block = vec![0; usize::try_from(start - block_start).unwrap_or(0)];
        file.read_exact_at(&mut block, block_start)?;
        newlines += memchr::memchr_iter(b'\n', &block).count();
        blocks.push(block);
        start = block_start;
    }
    blocks.reverse();
    let tail = blocks.concat();
    let text = String::from_utf8_lossy(&tail);
    let all: Vec<&str> = text.split_terminator('\n').collect();
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
