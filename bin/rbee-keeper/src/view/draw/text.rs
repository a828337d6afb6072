//! Text in columns of a terminal: cut and padded.

use std::borrow::Cow;

use ratatui::text::Span;

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of the text as fits, with `…` where some is cut; never more than `columns`.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut kept = String::new();
    let mut taken = 0;
    for grapheme in Span::raw(text).styled_graphemes(ratatui::style::Style::new()) {
        let wide = width(grapheme.symbol);
        if taken + wide + 1 > columns {
            break;
        }
        taken += wide;
        kept.push_str(grapheme.symbol);
    }
    if columns > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// The text behind its first `columns` columns.
pub(super) fn behind(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let graphemes = Span::raw(text);
    let mut rest = String::new();
    for grapheme in graphemes.styled_graphemes(ratatui::style::Style::new()) {
        if taken >= columns {
            rest.push_str(grapheme.symbol);
        }
        taken += width(grapheme.symbol);
    }
    rest
}

/// Cut and padded on its right to exactly `columns`.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let padding = columns.saturating_sub(width(&text));
    format!("{text}{}", " ".repeat(padding))
}

/// Cut and padded on its left to exactly `columns`.
pub(super) fn right(text: &str, columns: usize) -> String {
    let text = cut(text, columns);
    let padding = columns.saturating_sub(width(&text));
    format!("{}{text}", " ".repeat(padding))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_its_column() {
        for (text, columns, expected) in [
            ("smollm2/0", 20, "smollm2/0"),
            ("smollm2/0", 5, "smol…"),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 4, "漢…"),
            ("👩‍👩‍👧 family", 4, "👩‍👩‍👧 …"),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, columns), expected, "{text} in {columns}");
            assert!(width(&cut(text, columns)) <= columns);
            assert_eq!(width(&left(text, columns)), columns);
            assert_eq!(width(&right(text, columns)), columns);
        }
        assert_eq!(behind("漢字abc", 2), "字abc");
        assert_eq!(behind("abc", 9), "");
    }
}
