//! One stream of events on its way through: what may pass, and what to remember of it. Pure.
//!
//! ```text
//!   piece ─▶ whole blocks ─▶ our notes out, the rest passes ─▶ … ─▶ [DONE]          the answer is complete
//!                                 │                           ├──▶ the worker's own error
//!                                 ▼                           ├──▶ it hands over     ┐ go on elsewhere
//!                              Progress                       └──▶ garbage           ┘ from Progress
//! ```
//!
//! What our own worker says is read as closely as resuming needs, by looking for a few words: no event is parsed.

use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use rbee_api::openai::{DONE, Usage};
use serde::Deserialize;

use super::resume::{Malformed, Note, Progress};
use super::sse::{Framer, lines};

// In JSON a quote inside of a text is escaped, so none of these is ever found in what a model says.
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""finish_reason":""#));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""choices":["#));
static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""index":"#));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""usage":{"#));

/// What a stream is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// How many choices the client wants.
    pub(super) choices: u32,
    /// Whether it wants to see the usage.
    pub(super) usage_wanted: bool,
    /// Whether the usage is counted.
    pub(super) usage_counted: bool,
}

/// The state of one stream, over all workers that write it.
#[derive(Debug)]
pub(super) struct Stream {
    terms: Terms,
    framer: Framer,
    progress: Progress,
    passed: bool,
    usage: Option<Usage>,
}

/// What becomes of a piece.
#[derive(Debug, PartialEq)]
pub(super) struct Taken {
    /// For the client; may be empty.
    pub(super) pass: Bytes,
    /// Whether the worker has shown that it works.
    pub(super) alive: bool,
    /// Whether the answer is further than before.
    pub(super) further: bool,
    /// What ends this worker's part.
    pub(super) end: Option<End>,
}

/// What ends a worker's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// `[DONE]`, which is not in what passes.
    Done,
    /// The worker's own error, which is not in what passes.
    Error(Bytes),
    /// It will not finish.
    Handover,
    /// This is no answer.
    Garbage(&'static str),
}

/// A block, as far as it was read.
#[derive(Default)]
struct Block {
    note: Option<u32>,
    further: bool,
    first_data: Option<Range<usize>>,
    last_data: Range<usize>,
    /// Begins here, without our notes.
    kept: Option<usize>,
}

impl Stream {
    /// One that has not begun.
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, framer: Framer::default(), progress: Progress::default(), passed: false, usage: None }
    }

    /// How far it is.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the client has seen anything of the answer.
    pub(super) fn has_passed(&self) -> bool {
        self.passed
    }

    /// What it took, as far as that is known.
    pub(super) fn usage(&self) -> Usage {
        self.usage.unwrap_or_else(|| Usage::new(0, self.progress.tokens()))
    }

    /// Whether nothing but `[DONE]` is missing.
    pub(super) fn is_complete(&self) -> bool {
        let usage_missing = (self.terms.usage_wanted || self.terms.usage_counted) && self.usage.is_none();
        self.progress.ended() >= self.terms.choices as usize && !usage_missing
    }

    /// Another worker goes on: half a block of the one before is nothing.
    pub(super) fn another_worker(&mut self) {
        self.framer = Framer::default();
    }

    /// Takes what came from a worker; `own`: from one that writes notes.
    pub(super) fn take(&mut self, piece: Bytes, own: bool) -> Taken {
        match self.framer.push(piece) {
            Ok(blocks) => self.blocks(blocks, own),
            Err(_) => Taken::nothing(Some(End::Garbage("an event without an end"))),
        }
    }

    /// What was left when a worker ended its stream: an end that lacks its empty line is an end.
    pub(super) fn rest(&mut self, own: bool) -> Taken {
        let rest = self.framer.rest();
        if rest.is_empty() {
            return Taken::nothing(None);
        }
        let mut whole = BytesMut::from(&rest[..]);
        whole.extend_from_slice(b"\n\n");
        let before = (self.progress.clone(), self.passed, self.usage);
        let taken = self.blocks(whole.freeze(), own);
        match taken.end {
            Some(End::Done | End::Error(_)) => taken,
            // Half an event is nothing: it was not passed on, so it was not said.
            _ => {
                (self.progress, self.passed, self.usage) = before;
                Taken::nothing(None)
            }
        }
    }

    fn blocks(&mut self, bytes: Bytes, own: bool) -> Taken {
        let mut kept = Kept { bytes: &bytes, range: 0..0, joined: BytesMut::new() };
        let mut taken = Taken::nothing(None);
        let mut block = Block::default();
        for (at, line) in lines(&bytes) {
            if !line.is_empty() {
                if let Err(what) = self.line(at, line, own, &mut block, &mut taken) {
                    taken.end = Some(End::Garbage(what));
                }
            } else {
                let end = bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |lf| at + lf + 1);
                match self.block(&bytes, &block, own, &mut taken) {
                    Ok(true) => kept.keep(block.kept.unwrap_or(at)..end),
                    Ok(false) => {}
                    Err(what) => taken.end = Some(End::Garbage(what)),
                }
                block = Block::default();
            }
            if taken.end.is_some() {
                break;
            }
        }
        taken.pass = kept.finish();
        taken
    }

    fn line(
        &mut self,
        at: usize,
        line: &[u8],
        own: bool,
        block: &mut Block,
        taken: &mut Taken,
    ) -> Result<(), &'static str> {
        if own && let Some(note) = line.strip_prefix(b": rbee ") {
            taken.alive = true;
            if block.kept.is_some() {
                return Err("a note in the middle of an event");
            }
            match self.progress.note(note) {
                Ok(Note::Working) => {}
                Ok(Note::Handover) => taken.end = Some(End::Handover),
                Ok(Note::Choice { index, further }) => {
                    block.note = Some(index);
                    block.further |= further;
                }
                Err(Malformed) => return Err("a note that makes no sense"),
            }
            return Ok(());
        }
        block.kept.get_or_insert(at);
        if let Some(data) = line.strip_prefix(b"data:") {
            let begin = at + "data:".len() + usize::from(data.first() == Some(&b' '));
            block.last_data = begin..at + line.len();
            block.first_data.get_or_insert_with(|| block.last_data.clone());
            return Ok(());
        }
        let known: [&[u8]; 4] = [b":", b"event:", b"id:", b"retry:"];
        if known.iter().any(|field| line.starts_with(field)) {
            return Ok(());
        }
        Err("something that is no event")
    }

    /// Whether the block passes.
    fn block(&mut self, bytes: &Bytes, block: &Block, own: bool, taken: &mut Taken) -> Result<bool, &'static str> {
        let Some(first) = block.first_data.clone() else {
            // Comments and the like pass; they prove nothing.
            return Ok(block.kept.is_some());
        };
        let (first, last) = (bytes[first].trim_ascii(), bytes[block.last_data.clone()].trim_ascii());
        if first == DONE.as_bytes() {
            taken.end = Some(End::Done);
            return Ok(false);
        }
        let sound = first.starts_with(b"{") && last.ends_with(b"}") && std::str::from_utf8(first).is_ok();
        if !sound {
            return Err("an event that is not JSON");
        }
        taken.alive = true;
        if first[1..].trim_ascii_start().starts_with(b"\"error\"") {
            taken.end = Some(End::Error(Bytes::copy_from_slice(first)));
            return Ok(false);
        }
        let shown = self.data(first, block.note, own)?;
        self.passed |= shown;
        taken.further |= block.further;
        Ok(shown)
    }

    /// Reads what must be known of an event; whether the client shall see it.
    fn data(&mut self, data: &[u8], note: Option<u32>, own: bool) -> Result<bool, &'static str> {
        let no_sense = |_: Malformed| "an event that makes no sense";
        let no_choice = match (own, note) {
            (true, Some(index)) => {
                if let Some(at) = FINISH_REASON.find(data) {
                    let reason = &data[at + FINISH_REASON.needle().len()..];
                    let reason = reason.split(|byte| *byte == b'"').next().unwrap_or_default();
                    let plain = reason.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_');
                    let reason = std::str::from_utf8(reason).ok().filter(|_| plain);
                    self.progress.finished(index, reason.ok_or("an end without a reason")?).map_err(no_sense)?;
                }
                return Ok(true);
            }
            (true, None) => match choice_of(data) {
                Some(index) => {
                    self.progress.begun(index).map_err(no_sense)?;
                    false
                }
                None => true,
            },
            (false, _) => false,
        };
        if (self.terms.usage_wanted || self.terms.usage_counted) && USAGE.find(data).is_some() {
            #[derive(Deserialize)]
            struct WithUsage {
                usage: Usage,
            }
            match serde_json::from_slice::<WithUsage>(data) {
                Ok(said) => self.usage = Some(said.usage),
                Err(_) if own => return Err("a usage that makes no sense"),
                // Others may count otherwise.
                Err(_) => {}
            }
            // We asked for it, the client did not.
            return Ok(self.terms.usage_wanted || !no_choice);
        }
        Ok(true)
    }
}

/// The index of the first choice in an event of our worker; `None` where it has none.
fn choice_of(data: &[u8]) -> Option<u32> {
    let choices = &data[CHOICES.find(data)? + CHOICES.needle().len()..];
    let digits = &choices[INDEX.find(choices)? + INDEX.needle().len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

impl Taken {
    fn nothing(end: Option<End>) -> Self {
        Self { pass: Bytes::new(), alive: false, further: false, end }
    }
}

/// Parts of one piece; uncopied where they are one.
struct Kept<'b> {
    bytes: &'b Bytes,
    range: Range<usize>,
    joined: BytesMut,
}

impl Kept<'_> {
    fn keep(&mut self, part: Range<usize>) {
        if self.range.is_empty() {
            self.range = part;
        } else if self.range.end == part.start {
            self.range.end = part.end;
        } else {
            self.joined.extend_from_slice(&self.bytes[self.range.clone()]);
            self.range = part;
        }
    }

    fn finish(mut self) -> Bytes {
        if self.joined.is_empty() {
            return self.bytes.slice(self.range);
        }
        self.joined.extend_from_slice(&self.bytes[self.range]);
        self.joined.freeze()
    }
}

#[cfg(test)]
mod tests;
