//! Which hive runs which replica. Pure: the same input gives the same plan, so that a queen that starts again
//! moves nothing.
//!
//! - Sticky: a replica stays where it is while that hive may keep it, however unevenly the load is spread.
//! - What has no place goes to the open hive with the fewest replicas for each of its cores.
//! - Workers that depend on one another stay together, with all their replicas: only a hive keeps the order of starts
//!   and stops. Where they are apart, they go where the first of them by name is.
//! - A hive that is drained loses its replicas as one that is gone does; what runs there is kept until its new place is
//!   ready (see [`crate::desired::Move`]).
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
    /// Keeps nothing that can go elsewhere, but is there: it is being drained.
    Drained,
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

/// Workers that stay together: a word for the group each of them is in. A worker by itself is in none.
pub type Groups = BTreeMap<String, String>;

/// The groups that dependencies make: whoever needs somebody is in one group with them.
#[must_use]
pub fn groups<'a>(needs: impl Iterator<Item = (&'a str, &'a [String])>) -> Groups {
    let mut neighbours: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, needed) in needs {
        for other in needed {
            neighbours.entry(name).or_default().push(other);
            neighbours.entry(other).or_default().push(name);
        }
    }
    let mut groups = Groups::new();
    for first in neighbours.keys() {
        let mut open = vec![*first];
        while let Some(name) = open.pop() {
            if !groups.contains_key(name) {
                groups.insert(name.to_owned(), (*first).to_owned());
                open.extend(neighbours.get(name).into_iter().flatten());
            }
        }
    }
    groups
}

/// The placement of `wanted` on `hives` that moves nothing of `previous` without need.
#[must_use]
pub fn plan(wanted: &BTreeSet<ReplicaId>, hives: &[Candidate], previous: &Placement, groups: &Groups) -> Placement {
    let hives: BTreeMap<&str, &Candidate> = hives.iter().map(|hive| (hive.name.as_str(), hive)).collect();
    let nowhere_to_go = !hives.values().any(|hive| hive.standing == Standing::Open);
    let mut placement = Placement::new();
    let mut load: BTreeMap<&str, u32> = BTreeMap::new();
    let group_of = |id: &ReplicaId| groups.get(&id.name).map(String::as_str);
    let mut group_homes: BTreeMap<&str, &Candidate> = BTreeMap::new();
    let mut homeless = Vec::new();
    for id in wanted {
        let home = previous.get(id).and_then(|name| hives.get(name.as_str()).copied());
        let home = home.filter(|home| !matches!(home.standing, Standing::Gone | Standing::Drained) || nowhere_to_go);
        let home = match (group_of(id), home) {
            (Some(group), Some(home)) => Some(*group_homes.entry(group).or_insert(home)),
            // Another of its group may have a home yet.
            (Some(_), None) => None,
            (None, home) => home,
        };
        match home {
            Some(home) => {
                placement.insert(id.clone(), home.name.clone());
                *load.entry(&home.name).or_default() += 1;
            }
            None => homeless.push(id),
        }
    }
    for id in homeless {
        let of_group = group_of(id).and_then(|group| group_homes.get(group).copied());
        let Some(home) = of_group.or_else(|| least_loaded(&hives, &load)) else { continue };
        placement.insert(id.clone(), home.name.clone());
        *load.entry(&home.name).or_default() += 1;
        if let Some(group) = group_of(id) {
            group_homes.insert(group, home);
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
        use Standing::{Drained, Gone, Holding, Open};
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
                what: "what a drained hive has goes elsewhere",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Drained), hive("b", Open)],
                previous: &[("w/0", "a"), ("w/1", "b")],
                expected: &[("w/0", "b"), ("w/1", "b")],
            },
            Case {
                what: "with nowhere else to go it stays there, and nothing new comes",
                wanted: &["w/0", "w/1"],
                hives: vec![hive("a", Drained), hive("b", Gone)],
                previous: &[("w/0", "a")],
                expected: &[("w/0", "a")],
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
            let placement = plan(&set(case.wanted), &case.hives, &placed(case.previous), &Groups::new());
            assert_eq!(placement, placed(case.expected), "{}", case.what);
        }
    }

    /// QUEEN-11
    #[test]
    fn who_depends_on_one_another_stays_together() {
        let needs = [("api", vec!["cache".to_owned()]), ("web", vec!["api".to_owned()]), ("other", vec![])];
        let groups = groups(needs.iter().map(|(name, needs)| (*name, needs.as_slice())));
        assert_eq!(groups.len(), 3, "one by itself is in no group: {groups:?}");
        let wanted = set(&["api/0", "api/1", "cache/0", "other/0", "web/0"]);
        let hives = [hive("a", Standing::Open), hive("b", Standing::Open)];
        let fresh = plan(&wanted, &hives, &Placement::new(), &groups);
        let homes: BTreeSet<&String> =
            fresh.iter().filter(|(id, _)| id.name != "other").map(|(_, hive)| hive).collect();
        assert_eq!((homes.len(), fresh[&id("other/0")] == **homes.first().unwrap()), (1, false), "{fresh:?}");
        assert_eq!(plan(&wanted, &hives, &fresh, &groups), fresh, "nothing moves without need");

        let apart = placed(&[("api/0", "b"), ("cache/0", "a"), ("other/0", "a")]);
        let together = plan(&wanted, &hives, &apart, &groups);
        assert_eq!(
            together,
            placed(&[("api/0", "b"), ("api/1", "b"), ("cache/0", "b"), ("other/0", "a"), ("web/0", "b")])
        );
        let lost = plan(&wanted, &[hive("a", Standing::Open), hive("b", Standing::Gone)], &together, &groups);
        assert!(lost.values().all(|hive| hive == "a"), "{lost:?}");
    }

    #[test]
    fn load_counts_for_each_core() {
        let hives = [
            Candidate { name: "big".into(), standing: Standing::Open, cores: 32 },
            Candidate { name: "small".into(), standing: Standing::Open, cores: 4 },
        ];
        let wanted = (0..9).map(|replica| ReplicaId { name: "w".into(), replica }).collect();
        let placement = plan(&wanted, &hives, &Placement::new(), &Groups::new());
        assert_eq!(placement.values().filter(|hive| *hive == "big").count(), 8);
    }

    fn standings() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(Standing::Open), Just(Standing::Holding), Just(Standing::Drained), Just(Standing::Gone)]
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
            let placement = plan(&wanted, &hives, &previous, &Groups::new());
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
                prop_assert!(!any_open || !matches!(standing, Some(Standing::Gone | Standing::Drained)));
            }
        }

        #[test]
        fn nothing_moves_while_nothing_changes(wanted in replicas(), hives in fleets(), previous in placements()) {
            let once = plan(&wanted, &hives, &previous, &Groups::new());
            prop_assert_eq!(plan(&wanted, &hives, &once, &Groups::new()), once);
        }

        #[test]
        fn the_order_of_hives_does_not_matter(wanted in replicas(), hives in fleets(), previous in placements()) {
            let mut reversed = hives.clone();
            reversed.reverse();
            prop_assert_eq!(plan(&wanted, &hives, &previous, &Groups::new()), plan(&wanted, &reversed, &previous, &Groups::new()));
        }

        #[test]
        fn what_is_added_moves_nothing(
            wanted in replicas(), more in replicas(), hives in fleets(), previous in placements(),
        ) {
            let before = plan(&wanted, &hives, &previous, &Groups::new());
            let after = plan(&wanted.union(&more).cloned().collect(), &hives, &before, &Groups::new());
            for (id, hive) in &before {
                prop_assert_eq!(after.get(id), Some(hive));
            }
        }
    }
}
