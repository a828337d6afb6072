//! Events through the whole chain: EVNT-23, EVNT-31, EVNT-32. Whoever follows queen hears everything once, whoever dies.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rbee_api::{ControlClient, Event, EventKind, EventQuery, Since};
use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use tokio::sync::watch;

use crate::{SLEEPER, down, pid, up, worker};

const WITHIN: Duration = Duration::from_secs(60);

fn from_the_start() -> EventQuery {
    EventQuery { since: Some(Since::Id(0)), limit: Some(10_000), ..EventQuery::default() }
}

fn client(home: &Home, port: u16) -> ControlClient {
    ControlClient::new(&format!("http://127.0.0.1:{port}"), Some(home.token())).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Everything that the tier at this port has in its journal.
fn told(home: &Home, port: u16) -> Vec<Event> {
    runtime().block_on(client(home, port).events(&from_the_start())).unwrap().events
}

/// One who follows queen, over as many connections as it takes.
struct Listener {
    heard: Arc<Mutex<Vec<Event>>>,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    fn new(home: &Home) -> Self {
        let (heard, (stop, mut stopped)) = (Arc::<Mutex<Vec<Event>>>::default(), watch::channel(false));
        let (of_thread, client) = (Arc::clone(&heard), client(home, home.queen_port));
        let follow = async move {
            let mut events = client.follow_events(from_the_start(), WITHIN);
            loop {
                tokio::select! {
                    event = events.next() => of_thread.lock().unwrap().push(event.unwrap()),
                    _ = stopped.changed() => return,
                }
            }
        };
        let thread = thread::spawn(move || runtime().block_on(follow));
        Self { heard, stop, thread: Some(thread) }
    }

    fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) {
        wait::until(what, WITHIN, || self.heard.lock().unwrap().iter().any(&wanted).then_some(()));
    }

    fn end(mut self) -> Vec<Event> {
        self.stop.send_replace(true);
        self.thread.take().unwrap().join().unwrap();
        self.heard.lock().unwrap().clone()
    }
}

/// What happened, without the id that each tier gives it itself.
fn facts(events: &[Event]) -> Vec<(jiff::Timestamp, String, EventKind)> {
    events.iter().map(|event| (event.at, event.daemon.clone(), event.kind)).collect()
}

fn runs(incarnation: u64) -> impl Fn(&Event) -> bool {
    move |event| {
        event.is_of("local:sleeper/0") && event.kind == EventKind::Running && event.incarnation == Some(incarnation)
    }
}

/// Each change of the worker begins where the one before ended.
fn assert_whole(events: &[Event]) {
    let mut phase = serde_json::json!("stopped");
    for event in events.iter().filter(|event| event.is_of("sleeper/0")) {
        if let (Some(to), Some(from)) = (event.phase, event.detail.as_ref().and_then(|detail| detail.get("from"))) {
            assert_eq!(*from, phase, "{events:#?}");
            phase = serde_json::json!(to);
        }
    }
}

/// EVNT-32
#[test]
fn who_follows_queen_hears_all_once_over_her_crash_and_her_upgrade() {
    let home = Home::with_config(SLEEPER);
    let status = up(&home);
    let listener = Listener::new(&home);
    listener.until("the start", runs(1));
    processes::crash(pid(&status["queen"]));
    processes::crash(pid(worker(&status)));
    home.keeper(&["queen", "start"]).assert().success();
    listener.until("the second run", runs(2));
    let (upgraded, code) = home.json(&["queen", "upgrade"]);
    assert_eq!(code, 0, "{upgraded}");
    processes::crash(pid(worker(&home.status())));
    listener.until("the third run", runs(3));
    let (heard, kept) = (listener.end(), told(&home, home.queen_port));
    assert!(heard.is_sorted_by(|a, b| a.id < b.id), "nothing twice: {heard:#?}");
    assert_eq!(heard, kept[..heard.len()], "and nothing is missing");
    assert_whole(&heard);
    for (daemon, kind) in [
        ("queen", EventKind::Upgraded),
        ("local:hive", EventKind::Adopted),
        ("local:hive", EventKind::Lease),
        ("local:sleeper/0", EventKind::Restarting),
    ] {
        assert!(heard.iter().any(|event| event.is_of(daemon) && event.kind == kind), "{daemon} {kind}: {heard:#?}");
    }
    assert!(!heard.iter().any(|event| event.kind == EventKind::Gap), "{heard:#?}");
    down(&home);
}

/// EVNT-31
#[test]
fn what_happens_while_queen_is_away_reaches_her_when_she_is_back() {
    let home = Home::with_config(SLEEPER);
    let status = up(&home);
    processes::crash(pid(&status["queen"]));
    processes::crash(pid(worker(&status)));
    let at_hive = wait::until("the second run, seen by the hive", WITHIN, || {
        let told = told(&home, home.hive_port);
        told.iter().any(runs(2)).then_some(told)
    });
    home.keeper(&["queen", "start"]).assert().success();
    let of_worker = |events: &[Event]| {
        let of_worker = events.iter().filter(|event| event.is_of("local:sleeper/0")).cloned().collect::<Vec<_>>();
        facts(&of_worker)
    };
    let at_queen = wait::until("all of it at queen", WITHIN, || {
        let told = told(&home, home.queen_port);
        (of_worker(&told).len() >= of_worker(&at_hive).len()).then_some(told)
    });
    assert_eq!(of_worker(&at_queen), of_worker(&at_hive), "in order, and once");
    assert_whole(&at_queen);
    down(&home);
}

/// EVNT-23
#[test]
fn a_queen_whose_journal_is_corrupt_sets_it_aside_and_asks_the_hive_again() {
    let home = Home::with_config(SLEEPER);
    up(&home);
    down(&home);
    let folder = home.path().join("state/monitor");
    std::fs::write(folder.join("queen.sqlite"), "no database, but text ".repeat(1_000)).unwrap();
    up(&home);
    let aside = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = aside.filter(|name| name.contains("corrupt")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    // What she has lost of the first life of the worker, its hive still has.
    let told = wait::until("the first life of the worker", WITHIN, || {
        let told = told(&home, home.queen_port);
        // Its run of before `down`, and the one of now.
        (told.iter().filter(|event| runs(1)(event)).count() == 2).then_some(told)
    });
    assert_whole(&told);
    down(&home);
}
