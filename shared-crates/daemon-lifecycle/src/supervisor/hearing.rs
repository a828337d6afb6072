//! What daemons say by the notify protocol, and whether it is they who say it.

use std::time::Duration;

use supervision::{Event, Incarnation, UnitName};

use super::owner::Owner;
use crate::notify::{Message, Note, SaidEnd};
use crate::process::{RunMark, session_of};

/// Messages of processes whose spawn was not reported yet.
const EARLY_MESSAGES_MAX: usize = 256;

impl Owner {
    /// Everything on the notify socket.
    pub(super) fn listen(&mut self) {
        loop {
            match self.notify.receive() {
                Ok(message) => self.hear(message),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => return tracing::warn!(%error, "cannot read the notify socket"),
            }
        }
    }

    pub(super) fn hear(&mut self, message: Message) {
        let Some(unit) = self.unit_of(message.pid) else {
            // A quick one speaks before its spawn is reported.
            if self.spawning > 0 && self.early.len() < EARLY_MESSAGES_MAX {
                self.early.push_back(message);
            } else {
                tracing::debug!(sender = message.pid, "a stranger wrote to the notify socket");
            }
            return;
        };
        for note in message.notes {
            self.take_note(&unit, note);
        }
    }

    fn take_note(&mut self, unit: &UnitName, note: Note) {
        let incarnation = self.core.unit(unit).map_or(Incarnation::NONE, supervision::Unit::incarnation);
        let unit = unit.clone();
        match note {
            Note::Ready => self.step(Event::Ready { unit, incarnation }),
            Note::Reloading => self.step(Event::Reloading { unit, incarnation }),
            Note::ExtendTimeout(by) => self.step(Event::ExtendTimeout { unit, incarnation, by_ms: ms(by) }),
            Note::Watchdog => self.step(Event::WatchdogPing { unit, incarnation }),
            Note::WatchdogTimeout(timeout) => {
                self.step(Event::WatchdogArmed { unit, incarnation, timeout_ms: ms(timeout) });
            }
            Note::WatchdogTrigger => {
                let reason = "it says itself that it is not well (WATCHDOG=trigger)".to_owned();
                self.trigger(unit, incarnation, reason);
            }
            Note::Status(text) => {
                if let Some(live) = self.live(&unit) {
                    live.status_text = Some(text);
                    self.changed.insert(unit);
                }
            }
            Note::Payload(pid) => self.note_payload(&unit, pid),
            Note::End(end) => {
                if let Some(live) = self.live(&unit) {
                    live.said_end = Some(end);
                }
            }
            Note::MainPid(pid) => self.change_main(&unit, pid),
            Note::Stopping => tracing::debug!(%unit, "says that it is stopping"),
            Note::Ignored(what) => tracing::debug!(%unit, what, "says something that changes nothing"),
        }
    }

    /// What it said of its end, with its status as the reason.
    pub(super) fn last_words(&mut self, unit: &UnitName) -> Option<(SaidEnd, String)> {
        let live = self.live(unit)?;
        let said = live.said_end.take()?;
        Some((said, live.status_text.take().unwrap_or_else(|| "what it needs is not there".to_owned())))
    }

    /// A daemon that asks to be ended needs no second probe: as many failures as it takes, at once.
    fn trigger(&mut self, unit: UnitName, incarnation: Incarnation, reason: String) {
        let failures = self.core.unit(&unit).map_or(0, |unit| unit.spec().health_failures_max);
        for _ in 0..failures {
            self.step(Event::HealthFailed { unit: unit.clone(), incarnation, reason: reason.clone() });
        }
    }

    /// The unit a process belongs to: its main process, one that carries its present run's mark, or one of its session.
    pub(super) fn unit_of(&self, pid: u32) -> Option<UnitName> {
        let of_main = |pid: u32| self.pids.get(&pid).cloned();
        let of_mark = || RunMark::of_process(pid).and_then(|mark| self.marks.get(&mark).cloned());
        of_main(pid).or_else(of_mark).or_else(|| session_of(pid).and_then(of_main))
    }

    /// What the newest probe of this run said of it.
    pub(super) fn show_health(&mut self, unit: &UnitName, incarnation: Incarnation, body: Option<serde_json::Value>) {
        if let Some(live) = self.live(unit).filter(|live| live.state.incarnation == incarnation.get()) {
            live.health = body.or(live.health.take());
            self.changed.insert(unit.clone());
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
