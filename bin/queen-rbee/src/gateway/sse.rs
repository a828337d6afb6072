//! Server-sent events on their way through: whole events only, and did the stream end as it should? Pure.
//!
//! An event that is cut off in the middle would reach the client as garbage before the error that explains it. So
//! the beginning of an event is held back until its end is there; whole events pass at once and uncopied.

use bytes::{Bytes, BytesMut};

/// An event longer than this passes in pieces.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The state of one stream.
#[derive(Debug, Default)]
pub(super) struct Framer {
    held: BytesMut,
    ended: bool,
}

impl Framer {
    /// Takes what came and gives what may pass now; may be empty.
    pub(super) fn push(&mut self, piece: Bytes) -> Bytes {
        let pass = if self.held.is_empty() && events_end(&piece) == piece.len() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            let end = match events_end(&self.held) {
                0 if self.held.len() > EVENT_BYTES_MAX => self.held.len(),
                end => end,
            };
            self.held.split_to(end).freeze()
        };
        self.ended |= ends_well_or_says_why(&pass);
        pass
    }

    /// Whether the end of the stream is no surprise: `[DONE]` was there, or the worker's own error.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What was held back when the stream ended.
    pub(super) fn rest(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.held).freeze();
        self.ended |= ends_well_or_says_why(&rest);
        rest
    }
}

/// Where the last whole event ends; 0 without one.
fn events_end(bytes: &[u8]) -> usize {
    // An empty line ends an event; lines end with LF or CRLF in the field, with CR alone nowhere.
    let after = |pattern: &[u8]| {
        bytes.windows(pattern.len()).rposition(|window| window == pattern).map_or(0, |at| at + pattern.len())
    };
    after(b"\n\n").max(after(b"\n\r\n"))
}

fn ends_well_or_says_why(events: &[u8]) -> bool {
    events.split(|byte| *byte == b'\n').any(|line| {
        let Some(data) = line.strip_prefix(b"data:") else { return false };
        let data = data.trim_ascii();
        data == rbee_api::openai::DONE.as_bytes() || is_error(data)
    })
}

fn is_error(data: &[u8]) -> bool {
    let key = data.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    key.is_some_and(|key| key.starts_with(b"\"error\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: &[&str]) -> (Vec<String>, bool, String) {
        let mut framer = Framer::default();
        let passed = pieces.iter().map(|piece| framer.push(Bytes::copy_from_slice(piece.as_bytes())));
        let passed = passed.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect();
        let rest = framer.rest();
        (passed, framer.has_ended(), String::from_utf8(rest.to_vec()).unwrap())
    }

    #[test]
    fn whole_events_pass_at_once_and_beginnings_wait() {
        let (passed, ended, rest) = run(&["data: 1\n\n", "data: 2\n\ndata", ": 3", "\n", "\ndata: {\"x"]);
        assert_eq!(passed, ["data: 1\n\n", "data: 2\n\n", "", "", "data: 3\n\n"]);
        assert!(!ended);
        assert_eq!(rest, "data: {\"x");
    }

    #[test]
    fn the_end_is_known_in_all_its_forms() {
        for (text, ended) in [
            ("data: [DONE]\n\n", true),
            ("data:[DONE]\r\n\r\n", true),
            ("data: {\"error\":{\"message\":\"m\"}}\n\n", true),
            ("data: { \"error\": 1}\n\n", true),
            ("data: {\"choices\":[{\"text\":\"[DONE]\"}]}\n\n", false),
            (": [DONE]\n\n", false),
            ("data: {\"text\":\"data: [DONE]\"}\n\n", false),
            ("", false),
        ] {
            assert_eq!(run(&[text]).1, ended, "{text:?}");
        }
    }

    #[test]
    fn an_endless_event_is_not_held_for_ever() {
        let mut framer = Framer::default();
        let passed = framer.push(Bytes::from(vec![b'x'; EVENT_BYTES_MAX + 1]));
        assert_eq!(passed.len(), EVENT_BYTES_MAX + 1);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_same_bytes_pass_in_whole_events(
            events in prop::collection::vec("[a-z\\[\\]]{0,8}", 0..6), cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let whole: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            let mut framer = Framer::default();
            let mut passed = Vec::new();
            let mut left = whole.as_bytes();
            for cut in cuts.iter().cycle() {
                if left.is_empty() { break; }
                let (piece, rest) = left.split_at((*cut).min(left.len()));
                let pass = framer.push(Bytes::copy_from_slice(piece));
                prop_assert!(pass.is_empty() || pass.ends_with(b"\n\n"));
                passed.extend_from_slice(&pass);
                left = rest;
            }
            prop_assert_eq!(passed, whole.as_bytes());
            prop_assert!(framer.rest().is_empty());
        }
    }
}
