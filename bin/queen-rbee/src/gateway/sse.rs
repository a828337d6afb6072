//! Server-sent events, cut into whole blocks. Pure.
//!
//! A block that is cut off in the middle would reach the client as garbage, and what it says would be counted twice
//! when the answer goes on elsewhere. So its beginning is held back until its end is there.

use bytes::{Bytes, BytesMut};

/// A block longer than this is none.
const BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Cuts one stream.
#[derive(Debug, Default)]
pub(super) struct Framer {
    held: BytesMut,
}

/// A block without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endless;

impl Framer {
    /// Takes what came and gives all whole blocks; uncopied where they came whole.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<Bytes, Endless> {
        if self.held.is_empty() {
            match blocks_end(&piece, 0) {
                end if end == piece.len() => return Ok(piece),
                end => {
                    self.held.extend_from_slice(&piece[end..]);
                    return self.bounded(piece.slice(..end));
                }
            }
        }
        // The end may lie across the seam.
        let seam = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(&piece);
        let end = blocks_end(&self.held, seam);
        let blocks = self.held.split_to(end).freeze();
        self.bounded(blocks)
    }

    /// What was held back when the stream ended.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    fn bounded(&self, blocks: Bytes) -> Result<Bytes, Endless> {
        if self.held.len() > BLOCK_BYTES_MAX { Err(Endless) } else { Ok(blocks) }
    }
}

/// Where the last whole block ends, not before `from`; 0 without one.
fn blocks_end(bytes: &[u8], from: usize) -> usize {
    // An empty line ends a block; lines end with LF or CRLF in the field, with CR alone nowhere.
    let ends = |at: &usize| match &bytes[from..*at] {
        [.., b'\n'] | [.., b'\n', b'\r'] => true,
        // A block that is nothing but its end.
        [] | [b'\r'] => from == 0,
        _ => false,
    };
    memchr::memrchr_iter(b'\n', &bytes[from..]).map(|at| at + from).find(ends).map_or(0, |at| at + 1)
}

/// Each line of whole blocks with where it begins, without its end.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut begin = 0;
    memchr::memchr_iter(b'\n', bytes).map(move |end| {
        let line = &bytes[begin..end];
        let at = std::mem::replace(&mut begin, end + 1);
        (at, line.strip_suffix(b"\r").unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: &[&str]) -> (Vec<String>, String) {
        let mut framer = Framer::default();
        let passed = pieces.iter().map(|piece| framer.push(Bytes::copy_from_slice(piece.as_bytes())).unwrap());
        let passed = passed.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect();
        (passed, String::from_utf8(framer.rest().to_vec()).unwrap())
    }

    #[test]
    fn whole_blocks_pass_at_once_and_beginnings_wait() {
        let (passed, rest) = run(&["data: 1\n\n", "data: 2\n\ndata", ": 3", "\n", "\ndata: {\"x"]);
        assert_eq!(passed, ["data: 1\n\n", "data: 2\n\n", "", "", "data: 3\n\n"]);
        assert_eq!(rest, "data: {\"x");
        let (passed, _) = run(&["a: 1\r\n\r", "\nb: 2\r", "\n\r\n", "\n"]);
        assert_eq!(passed, ["", "a: 1\r\n\r\n", "b: 2\r\n\r\n", "\n"]);
    }

    #[test]
    fn an_endless_block_is_not_held_for_ever() {
        let mut framer = Framer::default();
        let piece = Bytes::from(vec![b'x'; BLOCK_BYTES_MAX]);
        assert_eq!(framer.push(piece), Ok(Bytes::new()));
        assert_eq!(framer.push(Bytes::from_static(b"x")), Err(Endless));
    }

    #[test]
    fn lines_are_found_with_both_kinds_of_end() {
        let found: Vec<(usize, &[u8])> = lines(b"a\r\nbc\n\r\n").collect();
        assert_eq!(found, [(0, &b"a"[..]), (3, b"bc"), (6, b"")]);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_bytes_pass_in_whole_blocks(
            events in prop::collection::vec("[a-z\\[\\]]{0,8}", 0..6),
            crlf in any::<bool>(),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let end = if crlf { "\r\n\r\n" } else { "\n\n" };
            let whole: String = events.iter().map(|event| format!("data: {event}{end}")).collect();
            let mut framer = Framer::default();
            let mut passed = Vec::new();
            let mut left = whole.as_bytes();
            for cut in cuts.iter().cycle() {
                if left.is_empty() { break; }
                let (piece, rest) = left.split_at((*cut).min(left.len()));
                let pass = framer.push(Bytes::copy_from_slice(piece)).unwrap();
                prop_assert!(pass.is_empty() || pass.ends_with(end.as_bytes()));
                passed.extend_from_slice(&pass);
                left = rest;
            }
            prop_assert_eq!(passed, whole.as_bytes());
            prop_assert!(framer.rest().is_empty());
        }
    }
}
