//! What happened, as it is told to people, hooks and other tiers: one [`Event`] each, with an id that only grows.
//!
//! `GET /api/v1/events?since=&kind=&daemon=&limit=` answers an [`EventsReply`]. With `follow=true` or
//! `Accept: text/event-stream` it is a stream instead (`id: N`, `event: KIND`, `data: JSON`), which a `Last-Event-ID`
//! header resumes without a gap and without anything twice; [`EventFollower`] does so by itself. What was lost is told
//! by an event of kind [`EventKind::Gap`].

mod follow;

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Phase;

pub use follow::{EventFollower, EventStream};

/// Something that happened to a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows from each event of a tier to its next, over restarts, lost journals and clocks that were set back. Below 2^53.
    pub id: u64,
    /// When it happened, as the clock of its machine said.
    pub at: Timestamp,
    /// Which hive tells it; absent where a hive stands alone, and for what is queen's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hive: Option<String>,
    /// `queen`, `hive`, or `NAME/REPLICA`.
    pub daemon: String,
    /// What happened.
    pub kind: EventKind,
    /// In which run of the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// Its phase after that, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What there is to say besides; its form depends on the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<serde_json::Value>,
}

/// What can happen. The same words are `--kind K` and the keys of `on = { K = … }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Spawned, not proven ready yet.
    Starting,
    /// Ready.
    Running,
    /// Asked to end.
    Stopping,
    /// Gone, as was asked for.
    Stopped,
    /// Ended by itself; it is started again, now or after its back-off.
    Restarting,
    /// Gave up.
    Failed,
    /// Cannot be started, or (a hive) has not been heard of for longer than its lease.
    Unavailable,
    /// Gets nothing new and finishes what it has.
    Draining,
    /// Gets work again.
    Undrained,
    /// Ends because what it depends on has ended; it comes back with that.
    Cascade,
    /// Was alive when its supervisor came back, and goes on.
    Adopted,
    /// Used more than its threshold of something.
    Threshold,
    /// Did not pass its health probe, or was silent for longer than its watchdog allows.
    HealthFailed,
    /// The configuration was read anew.
    Reloaded,
    /// Runs another binary now.
    Upgraded,
    /// A hive's lease was granted or lost, or is in doubt, or the hive joined; `detail` says which.
    Lease,
    /// A hook could not be run, failed, or took too long.
    HookFailed,
    /// Events before this one were lost; `detail` says what is known of them.
    Gap,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Restarting,
        Self::Failed,
        Self::Unavailable,
        Self::Draining,
        Self::Undrained,
        Self::Cascade,
        Self::Adopted,
        Self::Threshold,
        Self::HealthFailed,
        Self::Reloaded,
        Self::Upgraded,
        Self::Lease,
        Self::HookFailed,
        Self::Gap,
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Draining => "draining",
            Self::Undrained => "undrained",
            Self::Cascade => "cascade",
            Self::Adopted => "adopted",
            Self::Threshold => "threshold",
            Self::HealthFailed => "health-failed",
            Self::Reloaded => "reloaded",
            Self::Upgraded => "upgraded",
            Self::Lease => "lease",
            Self::HookFailed => "hook-failed",
            Self::Gap => "gap",
        }
    }

    /// The kind that tells of the way into a phase.
    #[must_use]
    pub const fn of_phase(phase: Phase) -> Self {
        match phase {
            Phase::Stopped | Phase::Stale => Self::Stopped,
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Stopping => Self::Stopping,
            Phase::Restarting => Self::Restarting,
            Phase::Failed => Self::Failed,
            Phase::Unavailable => Self::Unavailable,
            Phase::Draining => Self::Draining,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no kind of event.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is no kind of event; there are: {}", EventKind::ALL.map(EventKind::as_str).join(", "))]
pub struct UnknownEventKind {
    /// What was given.
    pub word: String,
}

impl FromStr for EventKind {
    type Err = UnknownEventKind;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| UnknownEventKind { word: word.to_owned() })
    }
}

/// From where on events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After the event with this id.
    Id(u64),
    /// From this time on.
    Time(Timestamp),
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

/// Neither an id nor a time.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is neither the id of an event nor a time such as 2026-01-01T00:00:00Z")]
pub struct UnknownSince {
    /// What was given.
    pub word: String,
}

impl FromStr for Since {
    type Err = UnknownSince;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        if let Ok(id) = word.parse() {
            return Ok(Self::Id(id));
        }
        word.parse().map(Self::Time).map_err(|_| UnknownSince { word: word.to_owned() })
    }
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// From where on. Absent: the newest (of a stream: what comes from now on).
    pub since: Option<Since>,
    /// Only these kinds; none: all. A [`EventKind::Gap`] is told whatever is asked for.
    pub kinds: Vec<EventKind>,
    /// Only of this daemon: `queen`, `hive`, `NAME`, `NAME/REPLICA` or `HIVE:NAME/REPLICA`.
    pub daemon: Option<String>,
    /// At most so many; the server has a bound of its own. 0 asks only where the end is.
    pub limit: Option<usize>,
}

impl EventQuery {
    /// The query as it is written behind the path.
    #[must_use]
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.as_str()).collect();
        let since = self.since.map(|since| ("since", since.to_string()));
        let kinds = (!kinds.is_empty()).then(|| ("kind", kinds.join(",")));
        let daemon = self.daemon.clone().map(|daemon| ("daemon", daemon));
        let limit = self.limit.map(|limit| ("limit", limit.to_string()));
        since.into_iter().chain(kinds).chain(daemon).chain(limit).collect()
    }

    /// Whether an event is of a kind and a daemon that are wanted.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        event.kind == EventKind::Gap
            || ((self.kinds.is_empty() || self.kinds.contains(&event.kind))
                && self.daemon.as_deref().is_none_or(|daemon| event.is_of(daemon)))
    }
}

impl Event {
    /// Whether `daemon` (`queen`, `hive`, `NAME`, `NAME/REPLICA`, each perhaps behind `HIVE:`) names whom it happened to.
    #[must_use]
    pub fn is_of(&self, daemon: &str) -> bool {
        let (hive, daemon) = daemon.split_once(':').map_or((None, daemon), |(hive, rest)| (Some(hive), rest));
        let name = self.daemon.split_once('/').map_or(self.daemon.as_str(), |(name, _)| name);
        hive.is_none_or(|hive| self.hive.as_deref() == Some(hive)) && (self.daemon == daemon || name == daemon)
    }
}

/// Answer to a list of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsReply {
    /// Oldest first.
    pub events: Vec<Event>,
    /// What to give as `since` for what comes after these.
    pub next: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(hive: Option<&str>, daemon: &str, kind: EventKind) -> Event {
        let (hive, daemon) = (hive.map(str::to_owned), daemon.to_owned());
        let at = Timestamp::UNIX_EPOCH;
        Event { id: 1, at, hive, daemon, kind, incarnation: None, phase: None, cause: None, detail: None }
    }

    #[test]
    fn words_round_trip_and_equal_their_json() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse::<EventKind>().unwrap(), kind);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("runing".parse::<EventKind>().unwrap_err().to_string().contains("health-failed"));
    }

    #[test]
    fn every_phase_has_a_kind_of_its_word_where_there_is_one() {
        for phase in Phase::ALL {
            if phase != Phase::Stale {
                assert_eq!(EventKind::of_phase(phase).as_str(), phase.as_str());
            }
        }
    }

    #[test]
    fn since_is_an_id_or_a_time() {
        assert_eq!("17".parse::<Since>().unwrap(), Since::Id(17));
        let time: Since = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-01T00:00:00Z");
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_query_names_daemons_as_the_command_line_does() {
        for (of, hive, daemon, wanted) in [
            ("api", None, "api/0", true),
            ("api/1", None, "api/0", false),
            ("api/0", Some("a"), "api/0", true),
            ("a:api", Some("a"), "api/0", true),
            ("b:api", Some("a"), "api/0", false),
            ("a:hive", Some("a"), "hive", true),
            ("queen", None, "queen", true),
            ("ap", None, "api/0", false),
        ] {
            let query = EventQuery { daemon: Some(of.to_owned()), ..EventQuery::default() };
            assert_eq!(query.wants(&event(hive, daemon, EventKind::Failed)), wanted, "{of} {hive:?} {daemon}");
        }
    }

    #[test]
    fn a_gap_is_told_whatever_is_asked_for() {
        let query = EventQuery { kinds: vec![EventKind::Failed], ..EventQuery::default() };
        assert!(query.wants(&event(None, "hive", EventKind::Gap)));
        assert!(query.wants(&event(None, "api/0", EventKind::Failed)));
        assert!(!query.wants(&event(None, "api/0", EventKind::Running)));
    }
}
