//! Real commands: what they get, in which order, and what becomes of those that misbehave.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rbee_api::{Event, EventQuery, Since};

use super::*;
use crate::{Bounds, History};

const SOON: Duration = Duration::from_secs(60);

struct Scene {
    folder: tempfile::TempDir,
    journal: Journal,
    hooks: Hooks,
}

impl Scene {
    async fn new(config: HooksConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(&folder.path().join("hive.sqlite"), &Bounds::default()).history;
        let journal = Journal::open(history, "hive", &Bounds::default()).await;
        let hooks = Hooks::begin(&journal, &config, |event| event.daemon != "hive");
        Self { folder, journal, hooks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A rule for `api`'s failures.
    fn on_failed(&self, command: &str) {
        self.hooks.use_workers([("api".to_owned(), on(EventKind::Failed, command))].into());
    }

    fn fail(&self, daemon: &str) {
        self.journal.record(NewEvent::now(daemon, EventKind::Failed).with_cause("it \"fell\""));
    }

    /// The first that says a hook failed; waits for it.
    async fn failure(&self) -> Event {
        let query =
            EventQuery { since: Some(Since::Id(0)), kinds: vec![EventKind::HookFailed], ..EventQuery::default() };
        let mut follower = self.journal.follow(query, None).await.unwrap();
        let event = tokio::time::timeout(SOON, follower.next()).await.unwrap().unwrap();
        (*event).clone()
    }

    async fn failures(&self) -> Vec<Event> {
        let query =
            EventQuery { since: Some(Since::Id(0)), kinds: vec![EventKind::HookFailed], ..EventQuery::default() };
        self.journal.list(&query).await.events
    }

    /// Everything recorded has been run for.
    async fn done(&self) {
        self.journal.settled().await;
        self.hooks.close(SOON).await;
    }
}

fn on(kind: EventKind, command: &str) -> On {
    [(kind, vec![command.to_owned()])].into()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// HOOK-05
#[tokio::test]
async fn a_command_gets_the_event_and_runs_for_its_own_kind_and_daemon_only() {
    let scene = Scene::new(HooksConfig::default()).await;
    let (one, all) = (scene.path("one"), scene.path("all"));
    scene.on_failed(&format!(
        "cat >>{0}; echo \"$RBEE_EVENT_KIND $RBEE_EVENT_DAEMON ${{RBEE_TOKEN-none}}\" >>{0}",
        one.display()
    ));
    scene.hooks.use_config(
        on(EventKind::Failed, &format!("echo $RBEE_EVENT_DAEMON >>{}", all.display())),
        &HooksConfig::default(),
    );
    scene.fail("api/1");
    scene.journal.record(NewEvent::now("api/1", EventKind::Running));
    scene.fail("web/0");
    scene.fail("hive");
    scene.done().await;
    let written = lines(&one);
    let event: Event = serde_json::from_str(&written[0]).unwrap();
    assert_eq!((event.daemon.as_str(), event.kind), ("api/1", EventKind::Failed));
    assert_eq!(event.cause.as_deref(), Some("it \"fell\""), "the very event");
    assert_eq!(written[1..], ["failed api/1 none"], "once, and without our token");
    let mut of_all = lines(&all);
    of_all.sort();
    assert_eq!(of_all, ["api/1", "web/0"], "not for what another tier tells, too");
    assert_eq!(scene.failures().await, []);
}

/// HOOK-06
#[tokio::test]
async fn one_that_fails_says_so_with_its_last_words() {
    let scene = Scene::new(HooksConfig::default()).await;
    scene.on_failed("echo no such pager >&2; exit 3");
    scene.fail("api/0");
    let failure = scene.failure().await;
    let cause = failure.cause.unwrap();
    assert!(cause.contains("exit code 3") && cause.ends_with("no such pager"), "{cause}");
    assert_eq!(failure.daemon, "api/0");
    assert_eq!(failure.detail.unwrap()["kind"], "failed");
}

/// HOOK-06
#[tokio::test]
async fn a_hook_for_failed_hooks_that_fails_ends_there() {
    let scene = Scene::new(HooksConfig::default()).await;
    scene.on_failed("exit 1");
    scene.hooks.use_config(on(EventKind::HookFailed, "exit 2"), &HooksConfig::default());
    scene.fail("api/0");
    let count = async {
        while scene.failures().await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, count).await.unwrap();
    scene.done().await;
    let causes: Vec<String> = scene.failures().await.into_iter().map(|event| event.cause.unwrap()).collect();
    assert_eq!(causes.len(), 2, "{causes:?}");
    assert!(causes[0].contains("exit code 1") && causes[1].contains("exit code 2"), "{causes:?}");
}

/// HOOK-03
#[tokio::test]
async fn one_that_hangs_is_killed_with_its_whole_tree_and_says_so_and_others_go_on() {
    let config = HooksConfig { timeout: Duration::from_millis(300), at_once: 2, ..HooksConfig::default() };
    let scene = Scene::new(config).await;
    let (pid, other) = (scene.path("pid"), scene.path("other"));
    let hang = format!("setsid sh -c 'echo $$ >{}; exec sleep 1000' & sleep 1001", pid.display());
    let workers = [("api", hang), ("web", format!("echo $RBEE_EVENT_DAEMON >>{}", other.display()))];
    scene.hooks.use_workers(workers.map(|(name, command)| (name.to_owned(), on(EventKind::Failed, &command))).into());
    scene.fail("api/0");
    (0..20).for_each(|replica| scene.fail(&format!("web/{replica}")));
    let failure = scene.failure().await;
    assert!(failure.cause.as_ref().unwrap().contains("was not done within 0.3 s, and was killed"), "{failure:?}");
    let left = lines(&pid);
    let stat = fs::read_to_string(format!("/proc/{}/stat", left[0])).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z"), "{stat}");
    scene.done().await;
    let expected: Vec<String> = (0..20).map(|replica| format!("web/{replica}")).collect();
    assert_eq!(lines(&other).len(), expected.len(), "nobody else had to wait for it");
}

/// HOOK-02
#[tokio::test]
async fn a_thousand_events_at_once_are_bounded_in_order_and_what_was_left_out_is_told() {
    let scene = Scene::new(HooksConfig { at_once: 4, waiting_max: 32, ..HooksConfig::default() }).await;
    let file = scene.path("order");
    let command = format!("read -r line; echo \"$RBEE_EVENT_DAEMON $RBEE_EVENT_ID\" >>{}", file.display());
    scene.on_failed(&command);
    (0..1000).for_each(|nth| scene.fail(&format!("api/{}", nth % 4)));
    scene.failure().await;
    scene.done().await;
    let ran = lines(&file);
    let told: u64 =
        scene.failures().await.iter().map(|event| event.detail.as_ref().unwrap()["count"].as_u64().unwrap()).sum();
    assert_eq!(ran.len() as u64 + told, 1000, "each was run or told of");
    assert!(ran.len() >= 32, "{}", ran.len());
    for replica in 0..4 {
        let daemon = format!("api/{replica} ");
        let ids: Vec<u64> = ran.iter().filter_map(|line| line.strip_prefix(&daemon)?.parse().ok()).collect();
        assert!(ids.is_sorted() && !ids.is_empty(), "{ids:?}");
    }
}

/// HOOK-07
#[tokio::test]
async fn who_records_never_waits_and_an_end_is_bounded() {
    let scene = Scene::new(HooksConfig { at_once: 1, ..HooksConfig::default() }).await;
    let file = scene.path("began");
    scene.on_failed(&format!("echo >>{}; exec sleep 1000", file.display()));
    scene.fail("api/0");
    let began = async {
        while lines(&file).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, began).await.unwrap();
    // Its timeout is far away; the journal goes on all the same.
    (0..10).for_each(|_| scene.fail("api/0"));
    scene.journal.settled().await;
    assert_eq!(
        scene.journal.list(&EventQuery { since: Some(Since::Id(0)), ..EventQuery::default() }).await.events.len(),
        11
    );
    tokio::time::timeout(SOON, scene.hooks.close(Duration::from_millis(50))).await.unwrap();
    assert_eq!(lines(&file).len(), 1, "what waited was not run");
    scene.fail("api/0");
    scene.journal.settled().await;
    assert_eq!(lines(&file).len(), 1, "nothing is run after the end");
}
