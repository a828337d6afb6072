//! An event as one line for people.

use rbee_api::{Event, EventKind};

use super::{Tone, harmless};

/// Columns of the longest kind.
const KIND_COLUMNS: usize = 13;
const WHO_COLUMNS: usize = 20;

/// When, what, to whom, why.
pub(crate) fn event_line(event: &Event, color: bool) -> String {
    let at = event.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let hive = event.hive.as_ref().map(|hive| format!("{hive}:")).unwrap_or_default();
    let who = harmless(&format!("{hive}{}", event.daemon)).into_owned();
    let why = match (&event.cause, &event.detail) {
        (Some(cause), _) => cause.clone(),
        (None, Some(detail)) => detail.to_string(),
        (None, None) => String::new(),
    };
    let kind = tone(event.kind).paint(&format!("{:KIND_COLUMNS$}", event.kind), color);
    let at = Tone::Dim.paint(&at, color);
    format!("{at}  {kind}  {who:WHO_COLUMNS$}  {}", harmless(&why)).trim_end().to_owned() + "\n"
}

const fn tone(kind: EventKind) -> Tone {
    match kind {
        EventKind::Running | EventKind::Undrained | EventKind::Adopted | EventKind::Upgraded => Tone::Good,
        EventKind::Failed | EventKind::Unavailable | EventKind::HookFailed | EventKind::Gap => Tone::Bad,
        EventKind::Restarting
        | EventKind::Cascade
        | EventKind::Threshold
        | EventKind::HealthFailed
        | EventKind::Draining => Tone::Warn,
        EventKind::Starting | EventKind::Stopping | EventKind::Stopped | EventKind::Reloaded | EventKind::Lease => {
            Tone::Plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEEP-19
    #[test]
    fn a_line_says_when_what_whom_and_why() {
        let mut event = Event {
            id: 7,
            at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            hive: Some("local".to_owned()),
            daemon: "api/0".to_owned(),
            kind: EventKind::Failed,
            incarnation: Some(3),
            phase: None,
            cause: Some("exit code 1\x1b[2J\nfake line".to_owned()),
            detail: None,
        };
        insta::assert_snapshot!(event_line(&event, false), @"2026-01-02 03:04:05Z  failed         local:api/0           exit code 1 fake line");
        event.hive = None;
        event.daemon = "queen".to_owned();
        event.kind = EventKind::Running;
        event.cause = None;
        assert_eq!(event_line(&event, false), "2026-01-02 03:04:05Z  running        queen\n");
        event.kind = EventKind::Lease;
        event.detail = Some(serde_json::json!({ "state": "lost" }));
        assert!(event_line(&event, false).ends_with("{\"state\":\"lost\"}\n"));
    }
}
