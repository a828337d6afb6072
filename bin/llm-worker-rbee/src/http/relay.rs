//! What queen must know to go on with a stream elsewhere, told in comments beside the text.
//!
//! ```text
//!   : rbee CHOICE TOKENS BYTES     with an event that carries text of a choice, opens or finishes it: its tokens since
//!                                  the line before (comma separated, `-` for none), the model's text so far in bytes
//!                                  (that of calls too, which the client gets as calls)
//!   : rbee progress                the engine works, but there is no text yet
//!   : rbee handover                no more comes from here; go on elsewhere
//! ```

use axum::http::HeaderMap;
use rbee_api::RESUMABLE_HEADER;
use rbee_api::openai::{FinishReason, ResumedChoice};
use serde_json::Value;

use crate::engine::Token;
use crate::job::Piece;

/// The engine works.
pub(super) const PROGRESS: &str = "rbee progress";
/// Go on elsewhere.
pub(super) const HANDOVER: &str = "rbee handover";

/// Whether the comments are asked for.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(RESUMABLE_HEADER).is_some_and(|value| value == "1")
}

/// A choice, and what of it was made elsewhere.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    pub(super) tokens: Vec<Token>,
    pub(super) finished: Option<FinishReason>,
    pub(super) place: Place,
}

impl Resumed {
    /// `told`: whether the comments are asked for.
    pub(super) fn new(index: u32, choice: Option<&ResumedChoice>, told: bool) -> Self {
        let Some(choice) = choice else { return Self { place: Place::new(index, told, None), ..Self::default() } };
        let bytes = usize::try_from(choice.text_bytes).unwrap_or(usize::MAX);
        let finished = choice.finished.clone();
        // What we do not know it as has ended too.
        let known = |name: String| serde_json::from_value(Value::String(name)).unwrap_or(FinishReason::Stop);
        Self {
            tokens: choice.tokens.iter().map(|id| Token(*id)).collect(),
            finished: finished.map(known),
            place: Place { is_finished: choice.finished.is_some(), ..Place::new(choice.index, told, Some(bytes)) },
        }
    }
}

/// Where one choice of an answer stands, as its client sees it.
#[derive(Debug, Default)]
pub(super) struct Place {
    choice: u32,
    /// Whether the client has the beginning already.
    begun: bool,
    /// Whether it has the end already.
    is_finished: bool,
    /// Whether anybody reads the comments.
    told: bool,
    /// Not in a comment yet.
    tokens: Vec<Token>,
    /// Text sent, also from elsewhere.
    bytes: usize,
    /// How much of the text to come the client has already.
    skip: usize,
}

impl Place {
    /// A choice of which the client has `bytes` of text, or not even the opening.
    pub(super) fn new(choice: u32, told: bool, bytes: Option<usize>) -> Self {
        let (begun, bytes) = (bytes.is_some(), bytes.unwrap_or(0));
        Self { choice, begun, is_finished: false, told, tokens: Vec::new(), bytes, skip: bytes }
    }

    /// Whether the client has the beginning already.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether the client has the end already.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether anybody reads the comments.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// The text of a piece: what the client has already, and what it has not.
    pub(super) fn take(&mut self, piece: Piece) -> (String, String) {
        if self.told {
            self.tokens.extend(piece.tokens);
        }
        let mut text = piece.text;
        let mut known = self.skip.min(text.len());
        // The client never had a part of a character; if it is said to, it gets that character again.
        while !text.is_char_boundary(known) {
            known -= 1;
        }
        self.skip = if known < text.len() { 0 } else { self.skip - known };
        let new = text.split_off(known);
        self.bytes += new.len();
        (text, new)
    }

    /// The comment to go with the event that carries all text taken so far.
    pub(super) fn comment(&mut self) -> Option<String> {
        let ids: Vec<String> = self.tokens.drain(..).map(|token| token.0.to_string()).collect();
        let ids = if ids.is_empty() { "-".to_owned() } else { ids.join(",") };
        self.told.then(|| format!("rbee {} {ids} {}", self.choice, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(tokens: &[i32], text: &str) -> Piece {
        Piece { tokens: tokens.iter().map(|id| Token(*id)).collect(), text: text.into(), ..Piece::default() }
    }

    #[test]
    fn comments_count_tokens_and_bytes() {
        let mut place = Place::new(1, true, None);
        assert_eq!(place.comment().as_deref(), Some("rbee 1 - 0"));
        assert_eq!(place.take(piece(&[5, 6], "né")).1, "né");
        assert_eq!(place.take(piece(&[7], "e")).1, "e");
        assert_eq!(place.comment().as_deref(), Some("rbee 1 5,6,7 4"));
        assert_eq!(place.comment().as_deref(), Some("rbee 1 - 4"));
    }

    #[test]
    fn what_the_client_has_is_not_said_again() {
        let mut place = Place::new(0, true, Some(4));
        assert_eq!(place.take(piece(&[], "né")), ("né".into(), String::new()));
        assert_eq!(place.take(piece(&[], "ever")), ("e".into(), "ver".into()));
        assert_eq!(place.take(piece(&[9], "!")).1, "!");
        assert_eq!(place.comment().as_deref(), Some("rbee 0 9 8"));
    }

    #[test]
    fn nobody_who_does_not_ask_sees_comments() {
        let mut place = Place::new(0, false, None);
        assert_eq!((place.take(piece(&[5], "a")).1.as_str(), place.comment()), ("a", None));
    }
}
