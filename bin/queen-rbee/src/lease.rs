//! How long a hive counts as alive after its last heartbeat. Pure: time comes in as a value.
//!
//! ```text
//!             heartbeat                ttl without one            grace without one
//!   (unknown) ─────────▶ alive ─────────────────────────▶ suspect ─────────────────▶ lost
//!                          ▲  ╲  heartbeat "stopping"        ▲ │                      │
//!                          │   ╲────────────────────────────╱  │                      │
//!                          └───────────── heartbeat ───────────┴──────────────────────┘
//! ```
//!
//! A suspect hive keeps its replicas and gets no new ones; a lost one's replicas move. A hive that queen knows
//! from its store only begins as suspect: it has had no chance to speak yet.
//!
//! A name belongs to one machine while its lease is not lost. A machine that says it is stopping gives it up.

use std::time::{Duration, Instant};

/// How patient queen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From a heartbeat until the hive is suspect.
    pub ttl: Duration,
    /// From then on until it is lost.
    pub grace: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(9), grace: Duration::from_secs(30) }
    }
}

/// What queen thinks of a hive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Heard of in time.
    Alive,
    /// Late, or about to end.
    Suspect,
    /// Late for so long that its replicas are needed elsewhere.
    Lost,
}

/// Another machine holds the name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name is held by machine {holder}, which was heard of {silent_s} s ago")]
pub struct Claimed {
    /// Its id.
    pub holder: String,
    /// Seconds since its last heartbeat.
    pub silent_s: u64,
}

/// The lease of one hive's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    terms: Terms,
    machine_id: String,
    suspect_at: Instant,
    renewed: Instant,
    given_up: bool,
}

impl Lease {
    /// A first heartbeat.
    #[must_use]
    pub fn new(terms: Terms, machine_id: &str, now: Instant) -> Self {
        let suspect_at = now + terms.ttl;
        Self { terms, machine_id: machine_id.to_owned(), suspect_at, renewed: now, given_up: false }
    }

    /// A hive that an earlier queen knew: suspect from the start.
    #[must_use]
    pub fn restored(terms: Terms, machine_id: &str, now: Instant) -> Self {
        Self { terms, machine_id: machine_id.to_owned(), suspect_at: now, renewed: now, given_up: false }
    }

    /// The machine that holds the name.
    #[must_use]
    pub fn machine_id(&self) -> &str {
        &self.machine_id
    }

    /// Takes a heartbeat; with `stopping` the hive is suspect at once.
    ///
    /// # Errors
    /// [`Claimed`] when another machine holds the name and has not given it up.
    pub fn heartbeat(&mut self, now: Instant, machine_id: &str, stopping: bool) -> Result<(), Claimed> {
        if machine_id != self.machine_id && self.state(now) != LeaseState::Lost && !self.given_up {
            let silent_s = now.saturating_duration_since(self.renewed).as_secs();
            return Err(Claimed { holder: self.machine_id.clone(), silent_s });
        }
        machine_id.clone_into(&mut self.machine_id);
        self.renewed = now;
        self.given_up = stopping;
        self.suspect_at = if stopping { now } else { now + self.terms.ttl };
        Ok(())
    }

    /// What queen thinks at `now`.
    #[must_use]
    pub fn state(&self, now: Instant) -> LeaseState {
        if now < self.suspect_at {
            LeaseState::Alive
        } else if now < self.suspect_at + self.terms.grace {
            LeaseState::Suspect
        } else {
            LeaseState::Lost
        }
    }

    /// When the state changes next without a heartbeat.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.state(now) {
            LeaseState::Alive => Some(self.suspect_at),
            LeaseState::Suspect => Some(self.suspect_at + self.terms.grace),
            LeaseState::Lost => None,
        }
    }

    /// When it was last heard of; a restored lease counts from queen's start.
    #[must_use]
    pub fn renewed(&self) -> Instant {
        self.renewed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms { ttl: Duration::from_secs(9), grace: Duration::from_secs(30) };

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn alive_then_suspect_then_lost() {
        let start = Instant::now();
        let lease = Lease::new(TERMS, "m", start);
        for (seconds, state) in [
            (0, LeaseState::Alive),
            (8, LeaseState::Alive),
            (9, LeaseState::Suspect),
            (38, LeaseState::Suspect),
            (39, LeaseState::Lost),
            (4000, LeaseState::Lost),
        ] {
            assert_eq!(lease.state(after(start, seconds)), state, "after {seconds} s");
        }
    }

    #[test]
    fn a_heartbeat_brings_it_back_from_anywhere() {
        let start = Instant::now();
        for late in [1, 10, 100] {
            let mut lease = Lease::new(TERMS, "m", start);
            lease.heartbeat(after(start, late), "m", false).unwrap();
            assert_eq!(lease.state(after(start, late + 8)), LeaseState::Alive);
        }
    }

    #[test]
    fn a_name_is_held_until_it_is_lost_or_given_up() {
        let start = Instant::now();
        let mut lease = Lease::new(TERMS, "old", start);
        let claimed = lease.heartbeat(after(start, 20), "new", false).unwrap_err();
        assert_eq!(claimed, Claimed { holder: "old".into(), silent_s: 20 });
        assert_eq!(lease.machine_id(), "old", "a refused claim changes nothing");
        assert_eq!(lease.state(after(start, 20)), LeaseState::Suspect);
        lease.heartbeat(after(start, 40), "new", false).unwrap();
        assert_eq!(lease.machine_id(), "new");

        lease.heartbeat(after(start, 41), "new", true).unwrap();
        assert_eq!(lease.state(after(start, 41)), LeaseState::Suspect, "it said that it is stopping");
        lease.heartbeat(after(start, 42), "third", false).unwrap();
    }

    #[test]
    fn a_restored_hive_is_suspect_but_keeps_its_name() {
        let start = Instant::now();
        let mut lease = Lease::restored(TERMS, "m", start);
        assert_eq!(lease.state(start), LeaseState::Suspect);
        assert!(lease.heartbeat(start, "other", false).is_err());
        lease.heartbeat(start, "m", false).unwrap();
        assert_eq!(lease.state(start), LeaseState::Alive);
    }

    proptest! {
        #[test]
        fn the_state_changes_exactly_at_its_deadlines(
            beats in prop::collection::vec((0u64..60, any::<bool>()), 0..8), look in 0u64..200,
        ) {
            let start = Instant::now();
            let mut lease = Lease::new(TERMS, "m", start);
            let mut now = start;
            for (wait, stopping) in beats {
                now = after(now, wait);
                prop_assert!(lease.heartbeat(now, "m", stopping).is_ok());
            }
            let now = after(now, look);
            if let Some(deadline) = lease.deadline(now) {
                prop_assert!(deadline > now);
                prop_assert_eq!(lease.state(deadline - Duration::from_nanos(1)), lease.state(now));
                prop_assert_ne!(lease.state(deadline), lease.state(now));
            } else {
                prop_assert_eq!(lease.state(now), LeaseState::Lost);
            }
        }
    }
}
