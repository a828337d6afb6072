//! From the model's text to content and calls, as it comes. What has been given out after a beginning of the text depends
//! on that beginning alone, not on the pieces it came in; so a resume knows from a number of bytes what was sent.
//!
//! ```text
//!            opening               name and arguments' begin         arguments' end            rest of the call
//!   Content ─────────▶ Opening ────────────────────────────▶ Arguments ─────────────▶ Closing ─────────────────▶ Content
//! ```

use super::Style;

/// What the text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// For the reader.
    Content(String),
    /// A call of this function begins.
    Call(String),
    /// More of the last call's arguments.
    Arguments(String),
}

/// Reads one answer.
#[derive(Debug)]
pub struct Parser {
    style: Style,
    state: State,
    /// What was not understood yet.
    held: String,
    /// Whether there was any content.
    anything: bool,
    /// Whether there was any call.
    called: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Content,
    Opening,
    Arguments(Depth),
    Closing,
}

/// Where in a JSON object we are.
#[derive(Debug, Default, Clone, Copy)]
struct Depth {
    braces: usize,
    in_string: bool,
    escaped: bool,
}

impl Depth {
    /// Whether the object ends with `byte`.
    fn ends_with(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.braces += 1,
            b'}' | b']' => {
                self.braces = self.braces.saturating_sub(1);
                return self.braces == 0;
            }
            _ => {}
        }
        false
    }
}

impl Parser {
    /// At the beginning of an answer.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self { style, state: State::default(), held: String::new(), anything: false, called: false }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> Vec<Output> {
        self.held.push_str(text);
        let mut outputs = Vec::new();
        while self.advance(&mut outputs) {}
        outputs
    }

    /// No more text comes: what was held back is content, unless it is the rest of a call.
    pub fn finish(&mut self) -> Vec<Output> {
        let rest = std::mem::take(&mut self.held);
        let is_content = matches!(self.state, State::Content) && !(self.called && rest.trim().is_empty());
        if is_content && !rest.is_empty() { vec![Output::Content(rest)] } else { Vec::new() }
    }

    /// One step; whether another may be possible.
    fn advance(&mut self, outputs: &mut Vec<Output>) -> bool {
        match &mut self.state {
            State::Content => self.content(outputs),
            State::Opening => self.opening(outputs),
            State::Arguments(depth) => {
                let end = self.held.bytes().position(|byte| depth.ends_with(byte)).map(|place| place + 1);
                let part: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
                if !part.is_empty() {
                    outputs.push(Output::Arguments(part));
                }
                if end.is_some() {
                    self.state = State::Closing;
                }
                end.is_some()
            }
            State::Closing => {
                let closing = self.style.after_arguments().len();
                if self.held.len() < closing {
                    return false;
                }
                self.held.drain(..closing);
                self.state = State::Content;
                true
            }
        }
    }

    fn content(&mut self, outputs: &mut Vec<Output>) -> bool {
        let tag = match self.style {
            Style::Tagged => "<tool_call>",
            Style::Bare if self.anything => return self.give(self.held.len(), outputs),
            Style::Bare => "{",
        };
        let found = match self.style {
            Style::Tagged => self.held.find(tag),
            Style::Bare => self.held.starts_with(tag).then_some(0),
        };
        if let Some(place) = found {
            let before = self.held[..place].trim_end().len();
            self.give(before, outputs);
            self.held.drain(..place - before);
            (self.anything, self.called) = (true, true);
            self.state = State::Opening;
            return true;
        }
        let begun = match self.style {
            Style::Tagged => (1..tag.len()).rev().find(|length| self.held.ends_with(&tag[..*length])).unwrap_or(0),
            Style::Bare => 0,
        };
        let certain = self.held[..self.held.len() - begun].trim_end().len();
        self.give(certain, outputs)
    }

    /// Gives out the first `length` bytes as content.
    fn give(&mut self, length: usize, outputs: &mut Vec<Output>) -> bool {
        if length > 0 {
            self.anything = true;
            outputs.push(Output::Content(self.held.drain(..length).collect()));
        }
        false
    }

    fn opening(&mut self, outputs: &mut Vec<Output>) -> bool {
        let (before_name, before_arguments) = (self.style.before_name(), self.style.before_arguments());
        let Some(rest) = self.held.get(before_name.len()..) else { return false };
        let Some(name_end) = rest.find(before_arguments) else { return false };
        let name = rest[..name_end].to_owned();
        self.held.drain(..before_name.len() + name_end + before_arguments.len());
        outputs.push(Output::Call(name));
        self.state = State::Arguments(Depth::default());
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything given out, joined as a client joins it.
    fn joined(outputs: impl IntoIterator<Item = Output>) -> (String, Vec<(String, String)>) {
        let (mut content, mut calls) = (String::new(), Vec::<(String, String)>::new());
        for output in outputs {
            match output {
                Output::Content(more) => content.push_str(&more),
                Output::Call(name) => calls.push((name, String::new())),
                Output::Arguments(more) => calls.last_mut().unwrap().1.push_str(&more),
            }
        }
        (content, calls)
    }

    fn parse(style: Style, pieces: &[&str]) -> (String, Vec<(String, String)>) {
        let mut parser = Parser::new(style);
        let mut outputs: Vec<Output> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        outputs.extend(parser.finish());
        joined(outputs)
    }

    const TWO: &str = "Let me see. \n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"x\": \"}\\\"{\", \"y\": [{}]}}\n</tool_call>\n\
        <tool_call>\n{\"name\": \"b\", \"arguments\": {}}\n</tool_call>\n";

    fn two() -> (String, Vec<(String, String)>) {
        let calls = [("a", r#"{"x": "}\"{", "y": [{}]}"#), ("b", "{}")];
        ("Let me see.".into(), calls.map(|(name, arguments)| (name.into(), arguments.into())).into())
    }

    /// OAI-33.
    #[test]
    fn content_and_calls_are_told_apart() {
        assert_eq!(parse(Style::Tagged, &[TWO]), two());
        assert_eq!(parse(Style::Tagged, &["a <tool", "box> \n"]), ("a <toolbox> \n".into(), vec![]));
        let cut = TWO.find("}\\\"").unwrap();
        assert_eq!(parse(Style::Tagged, &[&TWO[..cut]]).1, [("a".into(), r#"{"x": ""#.into())]);
    }

    #[test]
    fn a_bare_call_is_all_or_nothing() {
        let call = r#"{"name": "f", "parameters": {"a": 1}}"#;
        assert_eq!(parse(Style::Bare, &[call]), (String::new(), vec![("f".into(), r#"{"a": 1}"#.into())]));
        assert_eq!(parse(Style::Bare, &["no ", "{", call]), (format!("no {{{call}"), vec![]));
    }

    #[test]
    fn arguments_come_as_they_are_written() {
        let mut parser = Parser::new(Style::Tagged);
        let (opening, rest) = TWO.split_at(TWO.find("{\"x\"").unwrap() + 3);
        assert_eq!(parser.push(opening).last(), Some(&Output::Arguments("{\"x".into())));
        assert_eq!(parser.push(&rest[..2]), [Output::Arguments("\":".into())]);
    }

    proptest! {
        /// OAI-34.
        #[test]
        fn what_was_given_depends_on_the_text_alone(cuts in prop::collection::vec(0_usize..TWO.len(), 0..12), upto in 0_usize..=TWO.len()) {
            let text = &TWO[..upto];
            let mut whole = Parser::new(Style::Tagged);
            let at_once = joined(whole.push(text));
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < upto).collect();
            cuts.sort_unstable();
            let mut pieces = Parser::new(Style::Tagged);
            let mut outputs = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([upto]) {
                outputs.extend(pieces.push(&text[from..cut]));
                from = cut;
            }
            prop_assert_eq!(joined(outputs), at_once);
        }
    }
}
