//! What must be known of an answer to go on with it elsewhere. Pure.
//!
//! Our worker says it in comment lines that come in the same block as the text they belong to, so that whatever has
//! passed is known, and what is known has passed:
//!
//! ```text
//!   : rbee 0 11,7,302 14          choice 0: three more tokens; with this block its text has 14 bytes
//!   data: {"choices":[…]}
//!
//!   : rbee progress               it works, and has nothing to say yet
//!   : rbee handover               it will not finish this: go on elsewhere
//! ```

use std::fmt::Write;

/// Choices of one request.
const CHOICES_MAX: usize = 128;
/// Tokens of one choice; no context is longer.
const TOKENS_MAX: usize = 16 << 20;

/// How far each choice of an answer is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// In the order of their beginning; few.
    choices: Vec<Choice>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    index: u32,
    tokens: Vec<u32>,
    text_bytes: u64,
    finished: Option<String>,
}

/// What a comment line of our worker says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The choice with this index has begun, or is further where there are tokens.
    Choice {
        /// Which.
        index: u32,
        /// Whether it has new tokens.
        further: bool,
    },
    /// The engine works.
    Working,
    /// It will not finish.
    Handover,
}

/// A comment line that our worker does not write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Progress {
    /// Takes in what stands behind `: rbee `.
    pub(super) fn note(&mut self, line: &[u8]) -> Result<Note, Malformed> {
        match line {
            b"progress" => return Ok(Note::Working),
            b"handover" => return Ok(Note::Handover),
            _ => {}
        }
        let text = std::str::from_utf8(line).map_err(|_| Malformed)?;
        let mut words = text.split(' ');
        let (Some(index), Some(tokens), Some(bytes), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Malformed);
        };
        let index = index.parse().map_err(|_| Malformed)?;
        let bytes: u64 = bytes.parse().map_err(|_| Malformed)?;
        let choice = self.choice(index)?;
        // Text that was sent does not become less, and an ended answer does not go on.
        if bytes < choice.text_bytes || choice.finished.is_some() {
            return Err(Malformed);
        }
        if tokens != "-" {
            for token in tokens.split(',') {
                choice.tokens.push(token.parse().map_err(|_| Malformed)?);
            }
            if choice.tokens.len() > TOKENS_MAX {
                return Err(Malformed);
            }
        }
        choice.text_bytes = bytes;
        Ok(Note::Choice { index, further: tokens != "-" })
    }

    /// The choice has begun: its role was said.
    pub(super) fn begun(&mut self, index: u32) -> Result<(), Malformed> {
        self.choice(index).map(drop)
    }

    /// The choice has ended, and why.
    pub(super) fn finished(&mut self, index: u32, reason: &str) -> Result<(), Malformed> {
        self.choice(index)?.finished = Some(reason.to_owned());
        Ok(())
    }

    /// How many choices have ended.
    pub(super) fn ended(&self) -> usize {
        self.choices.iter().filter(|choice| choice.finished.is_some()).count()
    }

    /// Tokens of all choices.
    pub(super) fn tokens(&self) -> u64 {
        self.choices.iter().map(|choice| choice.tokens.len() as u64).sum()
    }

    /// For the `rbee_resume` of a request, in JSON.
    pub(super) fn to_json(&self) -> String {
        let mut json = String::with_capacity(32 + 8 * self.choices.iter().map(|c| c.tokens.len()).sum::<usize>());
        json.push('[');
        for (number, choice) in self.choices.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(json, "{comma}{{\"index\":{},\"tokens\":[", choice.index);
            for (number, token) in choice.tokens.iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                let _ = write!(json, "{comma}{token}");
            }
            let _ = write!(json, "],\"text_bytes\":{},\"finished\":", choice.text_bytes);
            match &choice.finished {
                Some(reason) => {
                    let _ = write!(json, "\"{reason}\"}}");
                }
                None => json.push_str("null}"),
            }
        }
        json.push(']');
        json
    }

    fn choice(&mut self, index: u32) -> Result<&mut Choice, Malformed> {
        match self.choices.iter().position(|choice| choice.index == index) {
            Some(at) => Ok(&mut self.choices[at]),
            None if self.choices.len() < CHOICES_MAX => {
                self.choices.push(Choice { index, tokens: Vec::new(), text_bytes: 0, finished: None });
                self.choices.last_mut().ok_or(Malformed)
            }
            None => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_add_up_to_what_a_worker_needs_to_go_on() {
        let mut progress = Progress::default();
        assert_eq!(progress.to_json(), "[]");
        assert_eq!(progress.note(b"progress"), Ok(Note::Working));
        progress.begun(1).unwrap();
        let choice = |further| Ok(Note::Choice { index: 0, further });
        assert_eq!(progress.note(b"0 11,7 4"), choice(true));
        assert_eq!(progress.note(b"0 302 4"), choice(true), "a token whose text is held back");
        assert_eq!(progress.note(b"0 - 9"), choice(false));
        progress.finished(0, "stop").unwrap();
        assert_eq!((progress.ended(), progress.tokens()), (1, 3));
        assert_eq!(
            progress.to_json(),
            r#"[{"index":1,"tokens":[],"text_bytes":0,"finished":null},{"index":0,"tokens":[11,7,302],"text_bytes":9,"finished":"stop"}]"#
        );
        assert_eq!(progress.note(b"handover"), Ok(Note::Handover));
    }

    #[test]
    fn what_no_worker_writes_is_refused() {
        for line in ["", "0", "0 1", "x 1 2", "0 1,,2 3", "0 1, 3", "0 -1 3", "-1 1 3", "0 1 x", "0 1 2 3", "0  1 2"] {
            assert_eq!(Progress::default().note(line.as_bytes()), Err(Malformed), "{line:?}");
        }
        assert_eq!(Progress::default().note(b"0 \xff 3"), Err(Malformed));
        let mut progress = Progress::default();
        progress.note(b"0 1 5").unwrap();
        assert_eq!(progress.note(b"0 2 4"), Err(Malformed), "text does not become less");
        progress.finished(0, "stop").unwrap();
        assert_eq!(progress.note(b"0 2 6"), Err(Malformed), "it has ended");
        let mut many = Progress::default();
        (0..128).for_each(|index| many.begun(index).unwrap());
        assert_eq!(many.begun(128), Err(Malformed));
    }
}
