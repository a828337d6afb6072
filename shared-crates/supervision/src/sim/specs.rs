//! What the units of a world are declared as.

use std::collections::BTreeMap;

use super::rng::Rng;
use crate::{Policy, Restart, Spec, UnitName};

/// A few units with few needs.
pub(super) fn random_units(rng: &mut Rng) -> BTreeMap<UnitName, Spec> {
    let mut specs: BTreeMap<UnitName, Spec> = BTreeMap::new();
    let most = if rng.percent(5) { 16 } else { 6 };
    for n in 0..rng.between(1, most) {
        let depends_on = random_needs(rng, specs.keys());
        specs.insert(UnitName::new(&format!("u{n:02}")), Spec { depends_on, ..random_spec(rng) });
    }
    specs
}

/// A unit may need any of those before it: no cycle can come about.
pub(super) fn random_needs<'a>(rng: &mut Rng, earlier: impl Iterator<Item = &'a UnitName>) -> Vec<UnitName> {
    earlier.filter(|_| rng.percent(35)).cloned().collect()
}

fn random_spec(rng: &mut Rng) -> Spec {
    let policies = [Policy::Always, Policy::Always, Policy::OnFailure, Policy::Never];
    let backoff_min_ms = if rng.percent(20) { 0 } else { rng.between(1, 300) };
    let small = |rng: &mut Rng, below| u32::try_from(rng.below(below)).unwrap_or(0);
    Spec {
        restart: Restart {
            policy: rng.pick(&policies).copied().unwrap_or(Policy::Always),
            backoff_min_ms,
            backoff_max_ms: backoff_min_ms + rng.between(0, 5_000),
            restarts_max: small(rng, 9),
            within_ms: rng.between(1, 20_000),
            reset_after_ms: rng.between(500, 20_000),
        },
        proves_ready: rng.percent(80),
        start_timeout_ms: rng.between(100, 2_000),
        stop_timeout_ms: rng.between(1, 1_500),
        health_failures_max: small(rng, 4),
        health_busy_max: small(rng, 6),
        depends_on: Vec::new(),
        launch_fingerprint: 0,
    }
}
