//! From token bytes to text that may be sent: characters are never torn, and text that may be the beginning of a stop
//! string is held back until it is known not to be.
//!
//! ```text
//! bytes ─▶ [torn tail of a character] ─▶ [held: may begin a stop string] ─▶ text to send
//!                                              │ a stop string is complete
//!                                              ▼
//!                                           stopped: text before it, then nothing
//! ```

/// Turns one answer's token bytes into text.
#[derive(Debug)]
pub struct TextStream {
    stops: Vec<String>,
    torn: Vec<u8>,
    held: String,
    stopped: bool,
}

impl TextStream {
    /// A stream that ends before the first of `stops`. Empty ones never match.
    #[must_use]
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, torn: Vec::new(), held: String::new(), stopped: false }
    }

    /// Whether a stop string was met.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes a token's bytes; gives the text that is certain now, possibly none.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.torn.extend_from_slice(bytes);
        self.take_whole_characters();
        self.release()
    }

    /// No more bytes come: gives what was held back.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        if !self.torn.is_empty() {
            self.torn.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        let mut text = self.release();
        if !self.stopped {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }

    fn take_whole_characters(&mut self) {
        loop {
            match std::str::from_utf8(&self.torn) {
                Ok(text) => {
                    self.held.push_str(text);
                    self.torn.clear();
                    return;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.held.push_str(&String::from_utf8_lossy(&self.torn[..valid]));
                    let Some(bad) = error.error_len() else {
                        self.torn.drain(..valid);
                        return;
                    };
                    self.held.push(char::REPLACEMENT_CHARACTER);
                    self.torn.drain(..valid + bad);
                }
            }
        }
    }

    fn release(&mut self) -> String {
        if let Some(place) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(place);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn begun(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let is_begin = |length: &usize| {
        let from = text.len() - length;
        text.is_char_boundary(from) && stop.is_char_boundary(*length) && text[from..] == stop[..*length]
    };
    (1..=longest).rev().find(is_begin).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let mut stream = TextStream::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut sent: Vec<String> = pieces.iter().map(|piece| stream.push(piece)).collect();
        sent.push(stream.finish());
        (sent, stream.stopped())
    }

    #[test]
    fn text_flows_when_nothing_can_match() {
        assert_eq!(run(&["xyz"], &[b"ab", b"c"]), (vec!["ab".into(), "c".into(), String::new()], false));
    }

    #[test]
    fn a_stop_over_three_tokens_is_never_seen() {
        let (sent, stopped) = run(&["###"], &[b"a#", b"#", b"#b"]);
        assert_eq!((sent.concat().as_str(), stopped), ("a", true));
    }

    #[test]
    fn a_begun_stop_that_does_not_come_is_sent_late() {
        assert_eq!(run(&["###"], &[b"a##", b"b"]), (vec!["a".into(), "##b".into(), String::new()], false));
        assert_eq!(run(&["###"], &[b"a##"]), (vec!["a".into(), "##".into()], false));
    }

    #[test]
    fn the_earliest_of_several_stops_wins() {
        let (sent, stopped) = run(&["later", "now"], &[b"x now and later"]);
        assert_eq!((sent.concat().as_str(), stopped), ("x ", true));
    }

    #[test]
    fn characters_are_whole() {
        let euro = "€".as_bytes();
        assert_eq!(
            run(&[], &[&euro[..1], &euro[1..2], &euro[2..]]),
            (vec![String::new(), String::new(), "€".into(), String::new()], false)
        );
        assert_eq!(run(&[], &[b"a\xff", b"b"]).0.concat(), "a\u{fffd}b");
        assert_eq!(run(&[], &[&euro[..2]]).0.concat(), "\u{fffd}");
    }

    proptest! {
        /// WORK-04.
        #[test]
        fn sent_text_is_the_text_up_to_the_first_stop(
            text in "[ab€#]{0,40}", stops in prop::collection::vec("[ab€#]{1,4}", 0..3), cuts in prop::collection::vec(1_usize..5, 1..60)
        ) {
            let first = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
            let mut stream = TextStream::new(stops.clone());
            let mut sent = String::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() || stream.stopped() {
                    break;
                }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                rest = tail;
                sent.push_str(&stream.push(piece));
            }
            sent.push_str(&stream.finish());
            // Tokens may end a stop string before an earlier-beginning, longer one is complete: then the shorter one ends it.
            let whole = &text[..first.unwrap_or(text.len())];
            if stops.len() <= 1 {
                prop_assert_eq!(&sent, whole);
            }
            prop_assert!(text.starts_with(&sent));
            prop_assert!(stops.iter().all(|stop| !sent.contains(stop.as_str())));
            prop_assert_eq!(stream.stopped(), first.is_some());
        }
    }
}
