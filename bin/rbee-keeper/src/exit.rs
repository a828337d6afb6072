//! Exit codes, as the contract has them (sysexits and LSB).

use std::process::ExitCode;

use rbee_api::Phase;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// Done.
    pub(crate) const DONE: Self = Self(0);
    /// The operation failed.
    pub(crate) const FAILED: Self = Self(1);
    /// The command line makes no sense.
    pub(crate) const USAGE: Self = Self(64);
    /// Queen or hive cannot be reached.
    pub(crate) const UNAVAILABLE: Self = Self(69);
    /// Not now; try again later.
    pub(crate) const TRY_AGAIN: Self = Self(75);
    /// The configuration is wrong.
    pub(crate) const CONFIG: Self = Self(78);

    /// `status`: it runs.
    pub(crate) const RUNNING: Self = Self(0);
    /// `status`: it is dead, but a PID file says otherwise.
    pub(crate) const STALE: Self = Self(1);
    /// `status`: it does not run.
    pub(crate) const NOT_RUNNING: Self = Self(3);
    /// `status`: cannot be told, or in between.
    pub(crate) const UNKNOWN: Self = Self(4);

    /// Ended by a signal, as shells tell it.
    pub(crate) const fn by_signal(number: u8) -> Self {
        Self(128 + number)
    }

    /// What `status` answers for something in that phase.
    pub(crate) fn of_phase(phase: Phase) -> Self {
        match phase {
            Phase::Running | Phase::Draining => Self::RUNNING,
            Phase::Stale => Self::STALE,
            Phase::Stopped | Phase::Failed | Phase::Unavailable => Self::NOT_RUNNING,
            Phase::Starting | Phase::Stopping | Phase::Restarting => Self::UNKNOWN,
        }
    }

    /// What `status` answers for several: stale before not running before unknown before running.
    pub(crate) fn of_phases(phases: impl IntoIterator<Item = Phase>) -> Self {
        let worst = [Self::STALE, Self::NOT_RUNNING, Self::UNKNOWN, Self::RUNNING];
        let rank = |exit: &Self| worst.iter().position(|candidate| candidate == exit).unwrap_or(worst.len());
        phases.into_iter().map(Self::of_phase).min_by_key(rank).unwrap_or(Self::NOT_RUNNING)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

#[cfg(test)]
mod tests {
    use rbee_api::Phase;

    use super::Exit;

    #[test]
    fn the_worst_phase_decides() {
        for (phases, expected) in [
            (vec![Phase::Running, Phase::Draining], Exit::RUNNING),
            (vec![Phase::Running, Phase::Starting], Exit::UNKNOWN),
            (vec![Phase::Restarting, Phase::Failed], Exit::NOT_RUNNING),
            (vec![Phase::Stopped, Phase::Stale], Exit::STALE),
            (vec![], Exit::NOT_RUNNING),
        ] {
            assert_eq!(Exit::of_phases(phases.clone()), expected, "{phases:?}");
        }
    }
}
