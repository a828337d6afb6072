//! The handover as the old queen sees it. Pure: events in, actions out; [`super::old`] carries them out.
//!
//! ```text
//!            Ask            Checked           Started, Hello            Released            Ready           Named
//!  ┌──────┐ ────▶ ┌──────────┐ ────▶ ┌─────────┐ ────▶ ┌───────────┐ ────▶ ┌─────────┐ ────▶ ┌────────┐ ────▶ ┌──────┐
//!  │ Idle │       │ Checking │       │ Warming │       │ Releasing │       │ Waiting │       │ Naming │       │ Left │
//!  └──▲───┘       └────┬─────┘       └────┬────┘       └─────┬─────┘       └────┬────┘       └────────┘       └──────┘
//!     │  refused       │   died, time     │                  │  died, refused,  │
//!     ├────────────────┴──────────────────┘   cannot let go  │  time, stop      │
//!     │                                   ┌──────────────────▼──────────────────┘
//!     └───────────────────────────────────┤ TakingBack: the heir is dead, locks and store are ours again
//! ```
//!
//! Until `Ready` the old queen can go on as if nothing had been; from then on the new one is the queen, whatever happens.

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody asked.
    Idle,
    /// The binary shows what it is.
    Checking,
    /// The heir starts; nothing has been given to it.
    Warming,
    /// Locks, store and hive are being let go of.
    Releasing,
    /// They are the heir's; it is not ready yet.
    Waiting,
    /// It failed, for this reason; they are being taken back.
    TakingBack { why: String },
    /// It is ready; the PID file is to name it.
    Naming,
    /// It is the queen.
    Left,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody wants an upgrade.
    Ask,
    /// What came of the self-check.
    Checked(Result<(), String>),
    /// What came of the start of the heir.
    Started(Result<(), String>),
    /// The heir has read all it needs and waits.
    Hello,
    /// What came of letting go.
    Released(Result<(), String>),
    /// The heir serves.
    Ready,
    /// The heir says that it cannot.
    Refused(String),
    /// The heir's process has ended, or its line is broken.
    HeirDied,
    /// Time is over.
    TimeOver,
    /// We shall stop.
    Stop,
    /// What came of taking back.
    TakenBack(Result<(), String>),
    /// What came of writing the heir's name; it is the queen all the same.
    Named(Result<(), String>),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Look at the binary; answer with `Checked`.
    Check,
    /// Start it beside us; answer with `Started`.
    StartHeir,
    /// Let go of locks, store and hive; answer with `Released`.
    Release,
    /// Tell the heir that they are its own.
    GiveOver,
    /// End the heir; on return it is gone.
    KillHeir,
    /// Take locks, store and hive back; answer with `TakenBack`.
    TakeBack,
    /// Have PID file and service manager name the heir; answer with `Named`.
    NameHeir,
    /// Tell the heir that it is named.
    Confirm,
    /// Tell who asked.
    Answer(Result<(), String>),
    /// We cannot go on: neither the heir nor we have what a queen needs.
    GiveUp(String),
}

impl State {
    /// The next state, and what to do meanwhile. What does not fit the state changes nothing.
    #[must_use]
    pub(super) fn step(self, event: Event) -> (Self, Vec<Action>) {
        match (self, event) {
            (Self::Idle, Event::Ask) => (Self::Checking, vec![Action::Check]),
            (Self::Checking, Event::Checked(Ok(()))) => (Self::Warming, vec![Action::StartHeir]),
            (Self::Checking, Event::Checked(Err(why))) | (Self::Warming, Event::Started(Err(why))) => {
                (Self::Idle, vec![Action::Answer(Err(why))])
            }
            (Self::Warming, Event::Hello) => (Self::Releasing, vec![Action::Release]),
            (Self::Releasing, Event::Released(Ok(()))) => (Self::Waiting, vec![Action::GiveOver]),
            (Self::Releasing, Event::Released(Err(why))) => take_back(why),
            (Self::Waiting, Event::Ready) => (Self::Naming, vec![Action::NameHeir]),
            (Self::Naming, Event::Named(_)) => (Self::Left, vec![Action::Confirm, Action::Answer(Ok(()))]),
            (Self::TakingBack { why }, Event::TakenBack(Ok(()))) => (Self::Idle, vec![Action::Answer(Err(why))]),
            (Self::TakingBack { why }, Event::TakenBack(Err(error))) => {
                let text = format!("{why}; and what was let go of cannot be taken back: {error}");
                (Self::Idle, vec![Action::Answer(Err(text.clone())), Action::GiveUp(text)])
            }
            (state @ (Self::Checking | Self::Warming | Self::Waiting), event) => match reason(&state, &event) {
                None => (state, Vec::new()),
                Some(why) if state == Self::Waiting => take_back(why),
                Some(why) if state == Self::Warming => (Self::Idle, vec![Action::KillHeir, Action::Answer(Err(why))]),
                Some(why) => (Self::Idle, vec![Action::Answer(Err(why))]),
            },
            (state, _) => (state, Vec::new()),
        }
    }
}

fn take_back(why: String) -> (State, Vec<Action>) {
    // First it is dead for certain: there is one queen at a time.
    (State::TakingBack { why }, vec![Action::KillHeir, Action::TakeBack])
}

/// Why an upgrade that is under way fails by this event.
fn reason(state: &State, event: &Event) -> Option<String> {
    let doing = match state {
        State::Checking => "was being checked",
        State::Warming => "was starting",
        _ => "was taking over",
    };
    match event {
        Event::Refused(why) => Some(format!("the new queen cannot take over: {why}")),
        Event::HeirDied if *state != State::Checking => Some(format!("the new queen ended while it {doing}")),
        Event::TimeOver => Some(format!("time was over while the new queen {doing}")),
        Event::Stop => Some("queen was told to stop meanwhile".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: &str = "no";

    fn no<T>() -> Result<T, String> {
        Err(NO.to_owned())
    }

    /// Every state that an upgrade goes through, and the event that leads on.
    fn way() -> Vec<(State, Event, Vec<Action>)> {
        vec![
            (State::Idle, Event::Ask, vec![Action::Check]),
            (State::Checking, Event::Checked(Ok(())), vec![Action::StartHeir]),
            (State::Warming, Event::Hello, vec![Action::Release]),
            (State::Releasing, Event::Released(Ok(())), vec![Action::GiveOver]),
            (State::Waiting, Event::Ready, vec![Action::NameHeir]),
            (State::Naming, Event::Named(Ok(())), vec![Action::Confirm, Action::Answer(Ok(()))]),
        ]
    }

    #[test]
    fn an_upgrade_goes_its_way() {
        let mut state = State::Idle;
        for (at, event, actions) in way() {
            assert_eq!(state, at);
            let next = state.step(event);
            assert_eq!(next.1, actions, "in {at:?}");
            state = next.0;
        }
        assert_eq!(state, State::Left);
    }

    /// UPGR-03
    #[test]
    fn what_fails_before_it_was_let_go_of_leaves_all_as_it_was() {
        let died = "the new queen ended while it was starting";
        for (state, event, kills, why) in [
            (State::Checking, Event::Checked(no()), false, NO),
            (State::Checking, Event::TimeOver, false, "time was over while the new queen was being checked"),
            (State::Checking, Event::Stop, false, "queen was told to stop meanwhile"),
            (State::Warming, Event::Started(no()), false, NO),
            (State::Warming, Event::HeirDied, true, died),
            (State::Warming, Event::TimeOver, true, "time was over while the new queen was starting"),
            (State::Warming, Event::Refused(NO.into()), true, "the new queen cannot take over: no"),
            (State::Warming, Event::Stop, true, "queen was told to stop meanwhile"),
        ] {
            let (next, actions) = state.clone().step(event.clone());
            let mut expected = vec![Action::Answer(Err(why.to_owned()))];
            if kills {
                expected.insert(0, Action::KillHeir);
            }
            assert_eq!((next, actions), (State::Idle, expected), "{state:?} {event:?}");
        }
    }

    /// UPGR-03
    #[test]
    fn what_fails_afterwards_is_taken_back_from_a_dead_heir() {
        for (state, event) in [
            (State::Releasing, Event::Released(no())),
            (State::Waiting, Event::HeirDied),
            (State::Waiting, Event::TimeOver),
            (State::Waiting, Event::Refused(NO.into())),
            (State::Waiting, Event::Stop),
        ] {
            let (next, actions) = state.clone().step(event.clone());
            assert_eq!(actions, [Action::KillHeir, Action::TakeBack], "{state:?} {event:?}");
            let State::TakingBack { why } = next.clone() else { panic!("{next:?}") };
            assert_eq!(
                next.clone().step(Event::TakenBack(Ok(()))),
                (State::Idle, vec![Action::Answer(Err(why))]),
                "who asked hears it when all is as it was"
            );
            let (_, actions) = next.step(Event::TakenBack(no()));
            assert!(matches!(actions.as_slice(), [Action::Answer(Err(_)), Action::GiveUp(_)]));
        }
    }

    /// UPGR-03
    #[test]
    fn once_the_heir_is_ready_nothing_takes_it_back() {
        for event in [Event::HeirDied, Event::TimeOver, Event::Stop, Event::Refused(NO.into()), Event::Ask] {
            for state in [State::Naming, State::Left] {
                assert_eq!(state.clone().step(event.clone()), (state, Vec::new()), "{event:?}");
            }
        }
        assert_eq!(State::Naming.step(Event::Named(no())).0, State::Left, "a PID file is not worth a queen");
    }

    #[test]
    fn late_and_misplaced_events_change_nothing() {
        let all = || {
            vec![
                Event::Ask,
                Event::Checked(Ok(())),
                Event::Started(Ok(())),
                Event::Hello,
                Event::Released(Ok(())),
                Event::Ready,
                Event::TakenBack(Ok(())),
                Event::Named(Ok(())),
            ]
        };
        for (state, fits, _) in way() {
            for event in all().into_iter().filter(|event| *event != fits) {
                assert_eq!(state.clone().step(event.clone()), (state.clone(), Vec::new()), "{event:?}");
            }
        }
        let waiting_to_take_back = State::TakingBack { why: NO.into() };
        for event in [Event::HeirDied, Event::TimeOver, Event::Ready, Event::Hello, Event::Stop] {
            assert_eq!(waiting_to_take_back.clone().step(event), (waiting_to_take_back.clone(), Vec::new()));
        }
    }
}
