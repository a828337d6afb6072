//! Any events in any order, also such as no shell sends: the core neither panics nor loses count.

use proptest::prelude::*;
use supervision::{
    Core, Event, Excess, ExitHow, Incarnation, Now, Phase, Policy, Resource, Restart, SpawnErrorKind, Spec, Stage,
    StopMode, UnitName,
};

fn unit() -> impl Strategy<Value = UnitName> {
    (0..4_u8).prop_map(|n| UnitName::new(&format!("u{n}")))
}

fn spec() -> impl Strategy<Value = Spec> {
    let policy = prop_oneof![Just(Policy::Always), Just(Policy::OnFailure), Just(Policy::Never)];
    // Whoever needs others comes after them in the alphabet: what a cycle does is not defined.
    (policy, 0..3_u64, 0..3_u32, any::<bool>(), 0..3_u64, 0..3_u32).prop_map(
        |(policy, ms, few, flag, print, health)| {
            let restart = Restart {
                policy,
                backoff_min_ms: ms,
                backoff_max_ms: ms * 4,
                restarts_max: few,
                within_ms: 10,
                reset_after_ms: 5,
            };
            Spec {
                restart,
                proves_ready: flag,
                start_timeout_ms: ms + 1,
                stop_timeout_ms: ms + 1,
                health_failures_max: health,
                health_busy_max: few,
                depends_on: Vec::new(),
                launch_fingerprint: print,
            }
        },
    )
}

fn mode() -> impl Strategy<Value = StopMode> {
    prop_oneof![
        Just(StopMode::Graceful),
        Just(StopMode::Now),
        (0..4_u64).prop_map(|timeout_ms| StopMode::Within { timeout_ms })
    ]
}

fn wish() -> impl Strategy<Value = Event> {
    prop_oneof![
        (unit(), spec(), 0..3_u64, any::<[bool; 3]>()).prop_map(|(unit, spec, last, needs)| {
            let all =
                ["u0", "u1", "u2"].into_iter().zip(needs).filter(|(name, needed)| *needed && **name < *unit.as_str());
            let depends_on = all.map(|(name, _)| UnitName::new(name)).collect();
            Event::Declare { unit, spec: Spec { depends_on, ..spec }, last_incarnation: Incarnation::new(last) }
        }),
        unit().prop_map(|unit| Event::Remove { unit }),
        unit().prop_map(|unit| Event::Start { unit }),
        unit().prop_map(|unit| Event::Restart { unit }),
        (unit(), mode()).prop_map(|(unit, mode)| Event::Stop { unit, mode }),
        (unit(), any::<bool>()).prop_map(|(unit, force)| Event::Retry { unit, force }),
        mode().prop_map(|mode| Event::StopAll { mode }),
        Just(Event::AdoptionDone),
        Just(Event::Tick),
    ]
}

const EXCESS: Excess = Excess { resource: Resource::OpenFiles, used: 2, limit: 1, for_ms: 0 };

fn report() -> impl Strategy<Value = Event> {
    (unit(), 0..6_u64, 0..15_u8, 0..4_u64).prop_map(|(unit, run, kind, ms)| {
        let incarnation = Incarnation::new(run);
        let reason = "x".to_owned();
        match kind {
            0 => Event::Adopted { unit, incarnation, stage: Stage::Ready, restarts: 1 },
            1 => Event::Adopted { unit, incarnation, stage: Stage::Ending, restarts: 1 },
            2 => Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Failed, reason },
            3 => Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Unavailable, reason },
            4 => Event::ExtendTimeout { unit, incarnation, by_ms: ms },
            5 => Event::HealthOk { unit, incarnation },
            6 => Event::HealthFailed { unit, incarnation, reason },
            7 => Event::HealthBusy { unit, incarnation },
            8 => Event::WatchdogArmed { unit, incarnation, timeout_ms: ms },
            9 => Event::Reloading { unit, incarnation },
            10 => Event::MemoryHigh { unit, incarnation, bytes: 2, limit: 1 },
            13 => Event::OverThreshold { unit, incarnation, excess: EXCESS, restarts: ms > 1 },
            11 => Event::Exited { unit, incarnation, how: ExitHow::Code(i32::try_from(ms).unwrap()) },
            12 => Event::Ready { unit, incarnation },
            _ => Event::Spawned { unit, incarnation },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// LIFE-35
    #[test]
    fn any_events_in_any_order_leave_a_core_that_knows_itself(
        starts_max in 1..3_usize,
        events in prop::collection::vec((0..4_u64, prop_oneof![2 => wish(), 3 => report()]), 0..200),
    ) {
        let mut core = Core::new(3).with_starts_max(starts_max);
        let mut now = Now::from_ms(0);
        for (after_ms, event) in events {
            now = now.plus_ms(after_ms);
            let _ = core.step(now, event);
            let is_quiet = core.units().all(|(_, unit)| {
                !unit.is_live() && !unit.is_waiting() && unit.phase() != Phase::Restarting
            });
            prop_assert_eq!(core.is_quiet(), is_quiet);
            let timed = core.units().any(|(_, unit)| unit.phase() == Phase::Restarting);
            prop_assert!(!timed || core.deadline().is_some(), "who waits out a back-off needs the clock");
            for (name, unit) in core.units() {
                let known = core.why(name).map(|why| why.to_string()).unwrap_or_default();
                let told = known.starts_with(&format!("{name} is {}", unit.phase()));
                prop_assert!(told, "{}", known);
                let is_down = |need: &UnitName| core.unit(need).is_none_or(|need| need.phase() != Phase::Running);
                if unit.is_waiting() && unit.spec().depends_on.iter().any(is_down) {
                    prop_assert!(unit.reason().is_some_and(|reason| reason.starts_with("waits for `")), "{:?}", unit);
                }
            }
        }
        let _ = core.step(now, Event::StopAll { mode: StopMode::Now });
        prop_assert!(core.units().all(|(_, unit)| !unit.is_live() || unit.phase() == Phase::Stopping));
    }
}
