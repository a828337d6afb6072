//! From a daemon's bytes to log lines: whole ones only, each with its time and stream.

use std::sync::Arc;

/// Which of its outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    const fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

/// Lines that can be written, and how many of the daemon's bytes they stand for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// What goes into the file, newlines included.
    pub(super) written: Vec<u8>,
    /// The lines of the file, without their newline.
    pub(super) lines: Vec<Arc<str>>,
    /// The daemon's own words alone.
    pub(super) texts: Vec<String>,
    /// Bytes of the daemon's.
    pub(super) consumed: usize,
}

impl Batch {
    /// Takes the whole lines of `bytes`; with `flush` also an unfinished last one. A line longer than `line_bytes_max` is broken.
    pub(super) fn of(bytes: &[u8], stream: Stream, at: jiff::Timestamp, line_bytes_max: usize, flush: bool) -> Self {
        let mut batch = Self::default();
        let mut rest = bytes;
        while let Some((line, eaten)) = next_line(rest, line_bytes_max, flush) {
            batch.add(line, stream, at);
            batch.consumed += eaten;
            rest = &rest[eaten..];
        }
        batch
    }

    fn add(&mut self, line: &[u8], stream: Stream, at: jiff::Timestamp) {
        let prefix = format!("{at:.3} {} ", stream.word());
        self.written.extend_from_slice(prefix.as_bytes());
        self.written.extend_from_slice(line);
        self.written.push(b'\n');
        let text = String::from_utf8_lossy(line).into_owned();
        self.lines.push(format!("{prefix}{text}").into());
        self.texts.push(text);
    }
}

/// The first line of `bytes` without its end, and how many bytes it took.
fn next_line(bytes: &[u8], line_bytes_max: usize, flush: bool) -> Option<(&[u8], usize)> {
    let within = &bytes[..bytes.len().min(line_bytes_max)];
    if let Some(end) = within.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[..end];
        return Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1));
    }
    let is_too_long = bytes.len() >= line_bytes_max && line_bytes_max > 0;
    (is_too_long || (flush && !bytes.is_empty())).then_some((within, within.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: &[u8], line_bytes_max: usize, flush: bool) -> (Vec<String>, usize) {
        let batch = Batch::of(bytes, Stream::Out, jiff::Timestamp::UNIX_EPOCH, line_bytes_max, flush);
        (batch.texts, batch.consumed)
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_line_has_its_time_and_stream() {
        let batch = Batch::of(b"hello\n\xff\n", Stream::Err, jiff::Timestamp::UNIX_EPOCH, 100, false);
        assert_eq!(batch.written, b"1970-01-01T00:00:00.000Z err hello\n1970-01-01T00:00:00.000Z err \xff\n");
        assert_eq!(&*batch.lines[0], "1970-01-01T00:00:00.000Z err hello");
    }

    #[test]
    fn an_unfinished_line_waits_for_its_end() {
        assert_eq!(batch(b"one\r\n\ntwo", 100, false), (lines(&["one", ""]), 6));
        assert_eq!(batch(b"two", 100, false), (lines(&[]), 0));
        assert_eq!(batch(b"two", 100, true), (lines(&["two"]), 3));
        assert_eq!(batch(b"", 100, true), (lines(&[]), 0));
    }

    #[test]
    fn a_line_that_is_too_long_is_broken_and_nothing_of_it_lost() {
        assert_eq!(batch(b"abcdefgh\nij", 3, false), (lines(&["abc", "def", "gh"]), 9));
    }
}
