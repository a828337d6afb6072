//! Findings and proposals as paragraphs that fit the width of a terminal.

use super::Tone;
use crate::doctor::{Finding, Severity};
use crate::optimize::{Advice, Proposal};

/// Columns of text; paths longer than a line stay whole.
const WIDTH: usize = 80;
const INDENT: &str = "  ";

/// Each finding: what, why, and what to do.
pub(crate) fn findings(found: &[Finding], color: bool) -> String {
    let mut text = String::new();
    for finding in found {
        let (mark, tone) = match finding.severity {
            Severity::Error => ("✗", Tone::Bad),
            Severity::Warning => ("!", Tone::Warn),
            Severity::Note => ("·", Tone::Dim),
        };
        text += &format!("{} ", tone.paint(mark, color));
        let what = format!("{}: {}", finding.area, finding.what);
        text += &paragraph(&what, INDENT, |line| {
            if finding.severity == Severity::Note { line.to_owned() } else { Tone::Bold.paint(line, color) }
        });
        text += INDENT;
        text += &paragraph(&finding.why, INDENT, |line| Tone::Dim.paint(line, color));
        if let Some(remedy) = &finding.remedy {
            text += &format!("{INDENT}→ ");
            text += &paragraph(remedy, "    ", str::to_owned);
        }
        text.push('\n');
    }
    text
}

/// Each proposal: key, from and to, why, and what it does; then what is not for the configuration.
pub(crate) fn proposals(found: &[Proposal], advice: &[Advice], color: bool) -> String {
    let mut text = String::new();
    for Proposal { key, from, to, reason, effect } in found {
        let from = from.as_ref().map_or_else(|| "not set".to_owned(), ToString::to_string);
        let change = format!("{key}: {from} → {to}");
        text += &paragraph(&change, INDENT, |line| Tone::Bold.paint(line, color));
        text += &reasons(reason, effect, color);
        text.push('\n');
    }
    for Advice { what, reason, effect, command } in advice {
        text += &paragraph(&format!("advice: {what}"), INDENT, |line| Tone::Bold.paint(line, color));
        text += &reasons(reason, effect, color);
        text += &format!("{INDENT}→ {}\n", paragraph(command, "    ", str::to_owned));
    }
    text
}

fn reasons(reason: &str, effect: &str, color: bool) -> String {
    let dim = |line: &str| Tone::Dim.paint(line, color);
    const BEHIND: &str = "          ";
    let (why, effect) = (paragraph(reason, BEHIND, dim), paragraph(effect, BEHIND, dim));
    format!("{INDENT}{} {why}{INDENT}{} {effect}", dim("why:   "), dim("effect:"))
}

/// Words in lines; every line but the first begins with `indent`, and the first counts as if it did.
pub(crate) fn paragraph(text: &str, indent: &str, paint: impl Fn(&str) -> String) -> String {
    let room = WIDTH - indent.len();
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > room {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let painted: Vec<String> = lines.iter().map(|line| paint(line)).collect();
    painted.join(&format!("\n{indent}")) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_words_stay_whole() {
        let text = "word ".repeat(40)
            + "/a/path/that/is/rather/long/but/stays/whole/whatever/the/width/of/the/terminal/may/be/here";
        let shown = paragraph(&text, "  ", str::to_owned);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[..lines.len() - 1].iter().all(|line| line.chars().count() <= WIDTH), "{shown}");
        assert!(lines[1].starts_with("  word") && lines.last().unwrap().trim().starts_with("/a/path"), "{shown}");
        assert_eq!(shown.split_whitespace().count(), 41);
    }
}
