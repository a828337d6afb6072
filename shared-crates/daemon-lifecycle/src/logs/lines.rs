//! From a daemon's bytes to log lines: whole ones only, each with its time and stream.

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

/// What stands before every line of a batch.
#[derive(Debug)]
pub(super) struct Stamp(String);

impl Stamp {
    pub(super) fn new(at: jiff::Timestamp, stream: Stream) -> Self {
        Self(format!("{at:.3} {} ", stream.word()))
    }
}

/// When a line of a log file was written; `None` where it does not say.
pub(super) fn written_at(line: &str) -> Option<jiff::Timestamp> {
    line.split_once(' ')?.0.parse().ok()
}

/// A line of a log file without what a [`Stamp`] put before it.
pub(super) fn text_of(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap_or(line)
}

/// Where one line ends and what is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Breaks {
    /// A longer line is broken.
    pub(super) line_bytes_max: usize,
    /// An unfinished last line counts too.
    pub(super) flush: bool,
    /// No more than this is written.
    pub(super) room: usize,
    /// The first line is, whatever its length.
    pub(super) first_anyway: bool,
}

/// What lines became.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamped {
    /// How many of the daemon's bytes they stand for.
    pub(super) consumed: usize,
    /// A further line had no room.
    pub(super) has_more: bool,
}

/// Puts the whole lines of `bytes` into `written`, stamped, newlines included.
pub(super) fn stamp_lines(bytes: &[u8], stamp: &Stamp, breaks: Breaks, written: &mut Vec<u8>) -> Stamped {
    let mut stamped = Stamped::default();
    let mut rest = bytes;
    while let Some((line, eaten)) = next_line(rest, breaks) {
        let must_fit = !breaks.first_anyway || !written.is_empty();
        if must_fit && written.len() + stamp.0.len() + line.len() + 1 > breaks.room {
            stamped.has_more = true;
            break;
        }
        written.extend_from_slice(stamp.0.as_bytes());
        written.extend_from_slice(line);
        written.push(b'\n');
        stamped.consumed += eaten;
        rest = &rest[eaten..];
    }
    stamped
}

/// The first line of `bytes` without its end, and how many bytes it took.
fn next_line(bytes: &[u8], breaks: Breaks) -> Option<(&[u8], usize)> {
    let line_bytes_max = breaks.line_bytes_max.max(1);
    let within = &bytes[..bytes.len().min(line_bytes_max)];
    if let Some(end) = memchr::memchr(b'\n', within) {
        let line = &bytes[..end];
        return Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1));
    }
    let is_too_long = bytes.len() >= line_bytes_max;
    (is_too_long || (breaks.flush && !bytes.is_empty())).then_some((within, within.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "1970-01-01T00:00:00.000Z out ";
    const ROOMY: Breaks = Breaks { line_bytes_max: 100, flush: false, room: 1000, first_anyway: false };

    fn stamped(bytes: &[u8], breaks: Breaks) -> (Vec<String>, Stamped) {
        let stamp = Stamp::new(jiff::Timestamp::UNIX_EPOCH, Stream::Out);
        let mut written = Vec::new();
        let stamped = stamp_lines(bytes, &stamp, breaks, &mut written);
        let lines = String::from_utf8(written).unwrap();
        (lines.lines().map(|line| line.strip_prefix(STAMP).unwrap().to_owned()).collect(), stamped)
    }

    fn taken(bytes: &[u8], line_bytes_max: usize, flush: bool) -> (Vec<String>, usize) {
        let (lines, stamped) = stamped(bytes, Breaks { line_bytes_max, flush, ..ROOMY });
        (lines, stamped.consumed)
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    /// LOGS-01
    #[test]
    fn a_line_has_its_time_and_stream_and_every_byte_it_had() {
        let stamp = Stamp::new(jiff::Timestamp::UNIX_EPOCH, Stream::Err);
        let mut written = Vec::new();
        stamp_lines(b"hel\0lo\n\xff\n", &stamp, ROOMY, &mut written);
        assert_eq!(written, b"1970-01-01T00:00:00.000Z err hel\0lo\n1970-01-01T00:00:00.000Z err \xff\n");
        let line = "1970-01-01T00:00:00.000Z err a  b ";
        assert_eq!((written_at(line), text_of(line)), (Some(jiff::Timestamp::UNIX_EPOCH), "a  b "));
        assert_eq!((written_at("once upon a time"), text_of("once")), (None, "once"));
    }

    #[test]
    fn an_unfinished_line_waits_for_its_end() {
        assert_eq!(taken(b"one\r\n\ntwo", 100, false), (lines(&["one", ""]), 6));
        assert_eq!(taken(b"two", 100, false), (lines(&[]), 0));
        assert_eq!(taken(b"two", 100, true), (lines(&["two"]), 3));
        assert_eq!(taken(b"", 100, true), (lines(&[]), 0));
    }

    /// LOGS-02
    #[test]
    fn a_line_that_is_too_long_is_broken_and_nothing_of_it_lost() {
        assert_eq!(taken(b"abcdefgh\nij", 3, false), (lines(&["abc", "def", "gh"]), 9));
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let line = STAMP.len() + 4;
        let within = |room| stamped(b"one\ntwo\n", Breaks { room, ..ROOMY });
        let more = |consumed| Stamped { consumed, has_more: true };
        assert_eq!(within(line), (lines(&["one"]), more(4)));
        assert_eq!(within(line - 1), (lines(&[]), more(0)));
        assert_eq!(within(2 * line), (lines(&["one", "two"]), Stamped { consumed: 8, has_more: false }));
        let first_anyway = stamped(b"one\ntwo\n", Breaks { room: 1, first_anyway: true, ..ROOMY });
        assert_eq!(first_anyway, (lines(&["one"]), more(4)));
    }
}
