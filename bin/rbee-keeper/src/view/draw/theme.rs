//! Signs and colours. Whatever a colour says is said by a sign or a word too.

use ratatui::style::{Color, Modifier, Style};
use rbee_api::{EventKind, Phase};

/// How things look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Theme {
    color: bool,
}

impl Theme {
    pub(crate) const fn new(color: bool) -> Self {
        Self { color }
    }

    fn in_color(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn dim(self) -> Style {
        if self.color { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    pub(super) fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn good(self) -> Style {
        self.in_color(Color::Green)
    }

    pub(super) fn warn(self) -> Style {
        self.in_color(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.in_color(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What the eye shall find at once: a question, an alarm.
    pub(super) fn alarm(self) -> Style {
        let base = Style::new().add_modifier(Modifier::BOLD);
        if self.color { base.fg(Color::White).bg(Color::Red) } else { base.add_modifier(Modifier::REVERSED) }
    }

    pub(super) fn accent(self) -> Style {
        self.in_color(Color::Cyan)
    }

    /// The row or title that keys go to.
    pub(super) fn selected(self, in_front: bool) -> Style {
        match (self.color, in_front) {
            (true, true) => Style::new().bg(Color::Indexed(24)).fg(Color::Indexed(231)).add_modifier(Modifier::BOLD),
            (true, false) => Style::new().bg(Color::Indexed(240)).fg(Color::Indexed(231)),
            (false, true) => Style::new().add_modifier(Modifier::REVERSED),
            (false, false) => Style::new().add_modifier(Modifier::UNDERLINED),
        }
    }

    pub(super) fn phase(self, phase: Phase) -> Style {
        match phase {
            Phase::Running => self.good(),
            Phase::Failed | Phase::Unavailable | Phase::Stale => self.bad(),
            Phase::Stopped => self.dim(),
            Phase::Starting | Phase::Stopping | Phase::Restarting | Phase::Draining => self.warn(),
        }
    }

    pub(super) fn kind(self, kind: EventKind) -> Style {
        match kind {
            EventKind::Running | EventKind::Undrained | EventKind::Adopted | EventKind::Upgraded => self.good(),
            EventKind::Failed | EventKind::Unavailable | EventKind::HookFailed | EventKind::Gap => self.bad(),
            EventKind::Restarting
            | EventKind::Cascade
            | EventKind::Threshold
            | EventKind::HealthFailed
            | EventKind::Draining => self.warn(),
            EventKind::Starting | EventKind::Stopping | EventKind::Stopped | EventKind::Reloaded | EventKind::Lease => {
                self.dim()
            }
        }
    }
}

/// The sign of a phase: each another shape.
pub(super) const fn sign(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "●",
        Phase::Starting => "◔",
        Phase::Stopping => "◑",
        Phase::Restarting => "↻",
        Phase::Draining => "▽",
        Phase::Stopped => "○",
        Phase::Failed => "✗",
        Phase::Unavailable => "⊘",
        Phase::Stale => "†",
    }
}

/// A bar for one of a hundred.
pub(super) const BARS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// KEEP-15
    #[test]
    fn phases_differ_without_colours() {
        let signs: HashSet<&str> = Phase::ALL.into_iter().map(sign).collect();
        assert_eq!(signs.len(), Phase::ALL.len());
        let theme = Theme::new(false);
        for phase in Phase::ALL {
            assert_eq!((theme.phase(phase).fg, theme.phase(phase).bg), (None, None));
        }
        for style in [theme.dim(), theme.alarm(), theme.selected(true), theme.selected(false), theme.accent()] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
