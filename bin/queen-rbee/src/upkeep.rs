//! What queen does by and by, from what she sees: the steps of rolling restarts, the end of moves, unloading what nobody
//! uses. Nothing is polled: every look follows a change of the fleet, the end of a request or a deadline.
//!
//! ```text
//!   View ─────┐
//!   Activity ─┼─▶ due (pure) ─▶ [Order, …] ─▶ registry ─▶ store ─▶ View
//!   time ─────┘       └─▶ deadline
//! ```
//!
//! Level-triggered: each order names the step it follows, and what was done stands in the store. So a queen that takes over
//! goes on where the one before was; at most a drain gets its time anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbee_api::{Desired, Phase, ReplicaId, WorkerStatus};

use crate::activity::{Activity, Place, Use};
use crate::desired::{Load, Wish};
use crate::fleet::View;
use crate::lease::LeaseState;
use crate::orders::Order;
use crate::registry::Registry;
use crate::rolling::Seen;

/// How long the next look waits after an order that could not be carried out.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);

/// What was seen of replicas before, so that their time is counted from there.
#[derive(Debug, Default)]
pub struct Memory {
    /// Since when a replica gets no new work.
    draining: BTreeMap<Place, Instant>,
    /// Since when a run is ready.
    ready: BTreeMap<(Place, u64), Instant>,
}

/// What is to be done now, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    /// In this order.
    pub orders: Vec<Order>,
    /// Nothing else happens before.
    pub deadline: Option<Instant>,
}

/// One moment on both clocks, and what is known of the fleet in it.
#[derive(Debug)]
pub struct Moment<'a, U: Fn(&Place) -> Option<Use>> {
    /// The fleet.
    pub view: &'a View,
    /// How much a replica is used.
    pub used: U,
    /// The moment.
    pub now: Instant,
    /// The same for people.
    pub wall: Timestamp,
    /// How long what is in flight at a replica may take to end when it is drained by queen.
    pub drain_timeout: Duration,
}

/// Looks after the fleet for as long as it is polled.
pub async fn run(registry: Registry, activity: Arc<Activity>, drain_timeout: Duration) {
    let mut views = registry.views();
    let mut idles = activity.idles();
    let mut memory = Memory::default();
    loop {
        idles.mark_unchanged();
        let view = Arc::clone(&views.borrow_and_update());
        let used = |(hive, id): &Place| activity.of(hive, id);
        let moment = Moment { view: &view, used, now: Instant::now(), wall: Timestamp::now(), drain_timeout };
        let Due { orders, deadline } = moment.due(&mut memory);
        activity.forget(|(hive, id)| view.hives.get(hive).is_some_and(|hive| hive.worker(id).is_some()));
        let mut failed = false;
        for order in orders {
            let name = format!("{order:?}");
            match registry.order(order).await {
                Ok(ordered) if ordered.changed => {}
                // Overtaken by an order by hand: the next view says so.
                Ok(_) => tracing::debug!(order = name, "overtaken"),
                Err(error) => {
                    tracing::warn!(order = name, %error, "cannot be carried out now");
                    failed = true;
                }
            }
        }
        let deadline = match failed {
            true => Some(Instant::now() + PAUSE_AFTER_ERROR),
            false => deadline,
        };
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = registry.left() => return,
            changed = views.changed() => if changed.is_err() {
                return;
            },
            // The activity is ours as well: its end is ours.
            _ = idles.changed() => {}
            () = timer => {}
        }
    }
}

impl<U: Fn(&Place) -> Option<Use>> Moment<'_, U> {
    /// What is to be done now. `memory` is what was seen up to the look before.
    pub fn due(&self, memory: &mut Memory) -> Due {
        self.remember(memory);
        let mut due = Due::default();
        self.roll(memory, &mut due);
        self.finish(memory, &mut due);
        self.move_on(memory, &mut due);
        self.unload(memory, &mut due);
        due
    }

    fn workers(&self) -> impl Iterator<Item = (Place, &WorkerStatus)> {
        self.view.hives.iter().flat_map(|(name, hive)| {
            hive.heartbeat.iter().flat_map(|heartbeat| &heartbeat.workers).map(move |worker| {
                let id = ReplicaId { name: worker.name.clone(), replica: worker.replica };
                ((name.clone(), id), worker)
            })
        })
    }

    fn remember(&self, memory: &mut Memory) {
        let draining = |(hive, id): &Place| self.view.desired.draining(hive, id).is_some();
        memory.draining.retain(|place, _| draining(place));
        let mut ready = BTreeMap::new();
        for (place, worker) in self.workers() {
            if draining(&place) {
                memory.draining.entry(place.clone()).or_insert(self.now);
            }
            if worker.phase == Phase::Running {
                let run = (place, worker.incarnation);
                let since = memory.ready.get(&run).copied().unwrap_or(self.now);
                ready.insert(run, since);
            }
        }
        memory.ready = ready;
    }

    fn roll(&self, memory: &Memory, due: &mut Due) {
        for (name, rolling) in self.view.desired.upkeep.rolling.iter().filter(|(_, rolling)| rolling.is_active()) {
            let Some(wish) = self.view.wishes.get(name) else { continue };
            let seen = |replica| self.seen(&ReplicaId { name: name.clone(), replica }, wish, memory);
            if let Some(to) = rolling.next(|replica| seen(replica).0) {
                tracing::info!(worker = name, step = ?to, "rolling restart");
                due.orders.push(Order::Roll { name: name.clone(), from: rolling.clone(), to });
                continue;
            }
            let draining = (0..=rolling.replicas).filter(|replica| rolling.drains(*replica));
            due.at(draining.filter_map(|replica| seen(replica).1).min());
        }
    }

    /// What is seen of a replica at its home, and when its drain is over at the latest.
    fn seen(&self, id: &ReplicaId, wish: &Wish, memory: &Memory) -> (Seen, Option<Instant>) {
        let desired = &self.view.desired;
        let wanted = desired.desired(id, wish) == Desired::Running;
        let Some(home) = desired.placement.get(id) else {
            return (Seen { wanted, drained: true, ..Seen::default() }, None);
        };
        let place = (home.clone(), id.clone());
        let (drained, deadline) = self.drained(&place, memory);
        let hive = self.view.hives.get(home).filter(|hive| hive.lease == LeaseState::Alive);
        let status = hive.and_then(|hive| hive.worker(id));
        let ordered = desired.orders.get(id).map_or(0, |orders| orders.restart_generation);
        let told = status.filter(|status| status.restart_generation >= ordered);
        let down = told.filter(|status| matches!(status.phase, Phase::Failed | Phase::Unavailable)).map(|status| {
            let reason = status.reason.as_deref().unwrap_or("it gave no reason");
            let log = match status.last_log_lines.as_slice() {
                [] => String::new(),
                lines => format!("\nits last log lines:\n  {}", lines.join("\n  ")),
            };
            format!("{id}, which was to stand in, is {}: {reason}; nothing was touched{log}", status.phase)
        });
        let ready = told.is_some_and(|status| status.phase == Phase::Running && !status.behind);
        (Seen { wanted, ready, down, drained }, deadline)
    }

    /// Whether nothing is in flight at a place that gets no new work, or it has had its time; and when it has.
    fn drained(&self, place: &Place, memory: &Memory) -> (bool, Option<Instant>) {
        let Some(since) = memory.draining.get(place) else { return (self.in_flight(place) == 0, None) };
        let deadline = *since + self.drain_timeout;
        let over = self.in_flight(place) == 0 || self.now >= deadline;
        (over, (!over).then_some(deadline))
    }

    fn in_flight(&self, place: &Place) -> usize {
        (self.used)(place).map_or(0, |used| used.in_flight)
    }

    /// Who has finished what it had is stopped or restarted.
    fn finish(&self, memory: &Memory, due: &mut Due) {
        for pending in &self.view.desired.upkeep.pending {
            let home = self.view.desired.placement.get(&pending.id);
            let drained = home.map(|home| self.drained(&(home.clone(), pending.id.clone()), memory));
            match drained {
                Some((false, deadline)) => due.at(deadline),
                _ => due.orders.push(Order::Finished { pending: pending.clone() }),
            }
        }
    }

    /// The old place of a replica goes when the new one is ready and nothing is in flight at the old one.
    fn move_on(&self, memory: &Memory, due: &mut Due) {
        for leaving in &self.view.desired.upkeep.moves {
            let Some(wish) = self.view.wishes.get(&leaving.id.name) else { continue };
            let (seen, _) = self.seen(&leaving.id, wish, memory);
            if !seen.ready {
                continue;
            }
            match self.drained(&(leaving.from.clone(), leaving.id.clone()), memory) {
                (true, _) => due.orders.push(Order::Moved { id: leaving.id.clone(), from: leaving.from.clone() }),
                (false, deadline) => due.at(deadline),
            }
        }
    }

    fn unload(&self, memory: &Memory, due: &mut Due) {
        for (name, wish) in self.view.wishes.iter() {
            let Some(on_demand) = wish.on_demand else { continue };
            let from = self.view.desired.load(name, wish);
            let to = match (from, self.idle_since(name, memory)) {
                (Load::Unloaded, _) | (Load::Loaded, Idle::No) => continue,
                (Load::Loaded, Idle::Since(since)) => match since + on_demand.idle_ttl {
                    end if end <= self.now => Load::Leaving,
                    end => {
                        due.at(Some(end));
                        continue;
                    }
                },
                (Load::Leaving, Idle::No) => Load::Loaded,
                (Load::Leaving, Idle::Since(_)) => Load::Unloaded,
            };
            tracing::info!(worker = name, ?to, "idle");
            due.orders.push(Order::Unload { name: name.clone(), from, to });
        }
    }

    /// Since when all replicas of a worker are ready and none is used. One that is busy, on its way, restarted or needed
    /// by others is not idle.
    fn idle_since(&self, name: &str, memory: &Memory) -> Idle {
        let desired = &self.view.desired;
        if desired.rolling(name).is_some()
            || self.view.wishes.values().any(|other| other.spec.depends_on.iter().any(|n| n == name))
        {
            return Idle::No;
        }
        let mut since = None;
        for (place, worker) in self.workers().filter(|(place, _)| place.1.name == name) {
            match worker.phase {
                Phase::Running => {}
                Phase::Starting | Phase::Stopping | Phase::Restarting | Phase::Draining => return Idle::No,
                Phase::Stopped | Phase::Failed | Phase::Unavailable | Phase::Stale => continue,
            }
            let used = (self.used)(&place);
            let asks_elsewhere = worker.health.as_ref().is_some_and(|health| health.queue_depth > 0);
            if asks_elsewhere || used.is_some_and(|used| used.in_flight > 0) {
                return Idle::No;
            }
            let ready = memory.ready.get(&(place, worker.incarnation)).copied();
            // Its own word: who asks it without queen uses it, too.
            let own = worker.health.as_ref().and_then(|health| health.last_activity).and_then(|at| self.instant_of(at));
            since = since.max(ready).max(used.map(|used| used.since)).max(own);
        }
        since.map_or(Idle::No, Idle::Since)
    }

    fn instant_of(&self, at: Timestamp) -> Option<Instant> {
        let ago = Duration::try_from(self.wall.duration_since(at)).unwrap_or_default();
        self.now.checked_sub(ago)
    }
}

enum Idle {
    No,
    Since(Instant),
}

impl Due {
    fn at(&mut self, deadline: Option<Instant>) {
        self.deadline = match (self.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

#[cfg(test)]
mod tests;
