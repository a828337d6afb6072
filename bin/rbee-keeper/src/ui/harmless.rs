//! Text that others wrote, made fit for a terminal: no escape sequences, no control characters, nothing that turns its
//! direction.

use std::borrow::Cow;

use anstream::adapter::strip_str;

/// Characters of one line; what is behind them is not shown.
const CHARS_MAX: usize = 4096;
const TAB_COLUMNS: usize = 8;

/// The text as one line that can do no harm.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_sound = |c: char| !c.is_control() && !turns(c);
    if text.len() <= CHARS_MAX && text.chars().all(is_sound) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    let mut count = 0;
    for c in strip_str(text).flat_map(str::chars).take(CHARS_MAX) {
        let (shown, times) = match c {
            '\t' => (' ', TAB_COLUMNS - count % TAB_COLUMNS),
            c if c.is_control() => (' ', 1),
            c if turns(c) => (char::REPLACEMENT_CHARACTER, 1),
            c => (c, 1),
        };
        line.extend(std::iter::repeat_n(shown, times));
        count += times;
    }
    line.truncate(line.trim_end().len());
    Cow::Owned(line)
}

/// Whether a character changes the direction of the text around it, or breaks its line.
const fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEEP-17
    #[test]
    fn what_a_worker_writes_cannot_move_the_cursor() {
        for (written, shown) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("\x1b[2J\x1b[Hgone", "gone"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1bP1;2|data\x1b\\text", "text"),
            ("a\tb", "a       b"),
            ("10%\r20%\r", "10% 20%"),
            ("bell\x07\x08\x00", "bell"),
            ("one\ntwo", "one two"),
            ("\u{9b}31mred", " 31mred"),
            ("abc\u{202e}fed", "abc\u{fffd}fed"),
            ("漢字 🐝 ünï", "漢字 🐝 ünï"),
            ("\x1b", ""),
            ("\x1b[", ""),
        ] {
            assert_eq!(harmless(written), shown, "{written:?}");
        }
        assert_eq!(harmless(&"x".repeat(1 << 20)).len(), CHARS_MAX);
    }
}
