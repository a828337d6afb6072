//! Which hive runs which replica. Pure: the same input gives the same plan, so that a queen that starts again
//! moves nothing.
//!
//! - Sticky: a replica stays where it is while that hive may keep it, however unevenly the load is spread.
//! - What has no place goes to the open hive with the fewest replicas for each of its cores.
//! - A hive that is gone loses its replicas as soon as another one is open; until then they stay written down
//!   where they were, because there is nowhere better.

use std::collections::{BTreeMap, BTreeSet};

use rbee_api::ReplicaId;

/// Where each replica is, by hive name.
pub type Placement = BTreeMap<ReplicaId, String>;

/// What a hive is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Takes new replicas and keeps its own.
    Open,
    /// Keeps its own and gets no new ones: it is late with its heartbeat, or about to end.
    Holding,
    /// Keeps nothing that can go elsewhere.
    Gone,
}

/// A hive as a place for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Unique in the fleet.
    pub name: String,
    /// What it is good for.
    pub standing: Standing,
    /// Cores of its machine; 0 counts as 1.
    pub cores: u32,
}

/// The placement of `wanted` on `hives` that moves nothing of `previous` without need.
#[must_use]
pub fn plan(wanted: &BTreeSet<ReplicaId>, hives: &[Candidate], previous: &Placement) -> Placement {
    let hives: BTreeMap<&str, &Candidate> = hives.iter().map(|hive| (hive.name.as_str(), hive)).collect();
    let nowhere_to_go = !hives.values().any(|hive| hive.standing == Standing::Open);
    let mut placement = Placement::new();
    let mut load: BTreeMap<&str, u32> = BTreeMap::new();
    let mut homeless = Vec::new();
    for id in wanted {
        let home = previous.get(id).and_then(|name| hives.get(name.as_str()));
        match home {
            Some(home) if home.standing != Standing::Gone || nowhere_to_go => {
                placement.insert(id.clone(), home.name.clone());
                *load.entry(&home.name).or_default() += 1;
            }
            _ => homeless.push(id),
        }
    }
    for id in homeless {
        if let Some(home) = least_loaded(&hives, &load) {
            placement.insert(id.clone(), home.name.clone());
            *load.entry(&home.name).or_default() += 1;
        }
    }
    placement
}

/// The open hive with the fewest replicas for each core; the first by name among equals.
fn least_loaded<'h>(hives: &BTreeMap<&str, &'h Candidate>, load: &BTreeMap<&str, u32>) -> Option<&'h Candidate> {
    let of = |hive: &Candidate| u64::from(load.get(hive.name.as_str()).copied().unwrap_or(0));
    hives.values().copied().filter(|hive| hive.standing == Standing::Open).min_by(|a, b| {
        // a/cores_a < b/cores_b, without division: exact, so that it is the same everywhere. The `+ 1` is the
        // replica that would come: a big empty machine goes before a small empty one.
        let a_share = (of(a) + 1) * u64::from(b.cores.max(1));
        let b_share = (of(b) + 1) * u64::from(a.cores.max(1));
        a_share.cmp(&b_share).then_with(|| a.name.cmp(&b.name))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ReplicaId {
        let (name, replica) = text.split_once('/').unwrap();
        ReplicaId { name: name.into(), replica: replica.parse().unwrap() }
    }

    fn set(ids: &[&str]) -> BTreeSet<ReplicaId> {
        ids.iter().map(|text| id(text)).collect()
    }

    fn hive(name: &str, standing: Standing) -> Candidate {
        Candidate { name: name.into(), standing, cores: 4 }
    }

    fn placed(pairs: &[(&str, &str)]) -> Placement {
        pairs.iter().map(|(replica, hive)| (id(replica), (*hive).to_owned())).collect()
    }

    struct Case {
        what: &'static str,
        wanted: &'static [&'static str],
        hives: Vec<Candidate>,
        previous: &'static [(&'static str, &'static str)],
        expected: &'static [(&'static str, &'static str)],
    }

    #[test]
    fn table() {
        use Standing::{Gone, Holding, Open};
        let cases = [
            Case {
                what: "spread over equals, in the order of names",
                wanted: &["w/0", "w/1", "w/2"],
                hives: vec![hive("b", Open), hive("a", Open)],
                previous: &[],
                expected: &[("w/0", "a"), ("w/1", "b"), ("w/2", "a")],
            },
            Case {
                what: "a new hive gets nothing that has a place",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Open), hive("b", Open)],
                previous: &[("w/0", "a"), ("w/1", "a")],
                expected: &[("w/0", "a"), ("w/1", "a")],
            },
            Case {
                what: "a new replica goes to the least loaded",
                wanted: &["w/0", "w/1", "w/2"],
                hives: vec![hive("a", Open), hive("b", Open)],
                previous: &[("w/0", "a"), ("w/1", "a")],
                expected: &[("w/0", "a"), ("w/1", "a"), ("w/2", "b")],
            },
            Case {
                what: "a lost hive's replicas move, the others stay",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Gone), hive("b", Open)],
                previous: &[("w/0", "a"), ("w/1", "b")],
                expected: &[("w/0", "b"), ("w/1", "b")],
            },
            Case {
                what: "a late hive keeps its own and gets nothing new",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Holding), hive("b", Open)],
                previous: &[("w/0", "a")],
                expected: &[("w/0", "a"), ("w/1", "b")],
            },
            Case {
                what: "nowhere to go: replicas of a lost hive stay written down, new ones have no place",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Gone), hive("b", Holding)],
                previous: &[("w/0", "a")],
                expected: &[("w/0", "a")],
            },
            Case {
                what: "what is not wanted any more has no place",
                wanted: &["w/0"],
                hives: vec![hive("a", Open)],
                previous: &[("w/0", "a"), ("w/1", "a"), ("v/0", "a")],
                expected: &[("w/0", "a")],
            },
            Case {
                what: "a hive nobody knows any more is as good as gone",
                wanted: &["w/0"],
                hives: vec![hive("a", Open)],
                previous: &[("w/0", "forgotten")],
                expected: &[("w/0", "a")],
            },
            Case { what: "no hive at all", wanted: &["w/0"], hives: vec![], previous: &[("w/0", "a")], expected: &[] },
        ];
        for case in cases {
            let placement = plan(&set(case.wanted), &case.hives, &placed(case.previous));
            assert_eq!(placement, placed(case.expected), "{}", case.what);
        }
    }

    #[test]
    fn load_counts_for_each_core() {
        let hives = [
            Candidate { name: "big".into(), standing: Standing::Open, cores: 32 },
            Candidate { name: "small".into(), standing: Standing::Open, cores: 4 },
        ];
        let wanted = (0..9).map(|replica| ReplicaId { name: "w".into(), replica }).collect();
        let placement = plan(&wanted, &hives, &Placement::new());
        assert_eq!(placement.values().filter(|hive| *hive == "big").count(), 8);
    }

    fn standings() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Standing::Open), Just(Standing::Holding), Just(Standing::Gone)]
    }

    fn fleets() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::btree_map("[a-e]", (standings(), 0u32..64), 0..5).prop_map(|hives| {
            hives.into_iter().map(|(name, (standing, cores))| Candidate { name, standing, cores }).collect()
        })
    }

    fn replicas() -> impl Strategy<Value = BTreeSet<ReplicaId>> {
        prop::collection::btree_set(("[u-w]", 0u32..8).prop_map(|(name, replica)| ReplicaId { name, replica }), 0..20)
    }

    fn placements() -> impl Strategy<Value = Placement> {
        (replicas(), prop::collection::vec("[a-f]", 20)).prop_map(|(ids, hives)| ids.into_iter().zip(hives).collect())
    }

    proptest! {
        /// QUEEN-01
        #[test]
        fn every_wanted_replica_has_one_place_when_any_hive_is_open(
            wanted in replicas(), hives in fleets(), previous in placements(),
        ) {
            let placement = plan(&wanted, &hives, &previous);
            let any_open = hives.iter().any(|hive| hive.standing == Standing::Open);
            // A map holds each replica once at most; so it is enough that none is missing and none is extra.
            prop_assert!(placement.keys().all(|id| wanted.contains(id)));
            if any_open {
                prop_assert_eq!(placement.len(), wanted.len());
            }
            for (id, name) in &placement {
                let hive = hives.iter().find(|hive| &hive.name == name);
                prop_assert!(hive.is_some(), "{} is on a hive nobody knows", id);
                let standing = hive.map(|hive| hive.standing);
                prop_assert!(standing == Some(Standing::Open) || previous.get(id) == Some(name));
                prop_assert!(!any_open || standing != Some(Standing::Gone));
            }
        }

        #[test]
        fn nothing_moves_while_nothing_changes(wanted in replicas(), hives in fleets(), previous in placements()) {
            let once = plan(&wanted, &hives, &previous);
            prop_assert_eq!(plan(&wanted, &hives, &once), once);
        }

        #[test]
        fn the_order_of_hives_does_not_matter(wanted in replicas(), hives in fleets(), previous in placements()) {
            let mut reversed = hives.clone();
            reversed.reverse();
            prop_assert_eq!(plan(&wanted, &hives, &previous), plan(&wanted, &reversed, &previous));
        }

        #[test]
        fn what_is_added_moves_nothing(
            wanted in replicas(), more in replicas(), hives in fleets(), previous in placements(),
        ) {
            let before = plan(&wanted, &hives, &previous);
            let after = plan(&wanted.union(&more).cloned().collect(), &hives, &before);
            for (id, hive) in &before {
                prop_assert_eq!(after.get(id), Some(hive));
            }
        }
    }
}
