//! The store against good, bad and foreign files.

use std::os::unix::fs::PermissionsExt;

use rbee_api::{Desired, ReplicaId};

use super::*;
use crate::desired::Orders;
use crate::desired::tests::{record, wish};

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("queen.sqlite")
}

type Damage<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);

fn full_state(fleet_id: &str) -> DesiredState {
    let id = ReplicaId { name: "w".into(), replica: 1 };
    let mut state = DesiredState::new(fleet_id.into());
    state.scaled.insert("w".into(), 2);
    state.orders.insert(
        id,
        Orders {
            desired: Some(Desired::Killed),
            restart_generation: 3,
            retry_generation: 4,
            forced_generation: 4,
            clean_generation: 2,
            draining: true,
        },
    );
    state.hives.insert("local".into(), record());
    let wishes = [("w".to_owned(), wish(1))].into();
    let open =
        crate::placement::Candidate { name: "local".into(), standing: crate::placement::Standing::Open, cores: 1 };
    state.replan(&wishes, &[open]);
    assert_eq!((state.placement.len(), state.orders.len()), (2, 1));
    state
}

#[tokio::test]
async fn everything_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(&path(&dir)).unwrap();
    let state = full_state(&opened.state.fleet_id);
    opened.store.save(Arc::new(state.clone())).await.unwrap();
    opened.store.close().await.unwrap();
    let opened = Store::open(&path(&dir)).unwrap();
    assert_eq!(opened.state, state);
    assert!(opened.set_aside.is_none());
}

#[tokio::test]
async fn a_new_store_keeps_its_fleet_id_from_the_first_moment() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(&path(&dir)).unwrap().state.fleet_id;
    assert_eq!(Store::open(&path(&dir)).unwrap().state.fleet_id, first);
    assert_eq!(uuid::Uuid::parse_str(&first).unwrap().to_string(), first);
}

#[tokio::test]
async fn starts_without_a_stop_between_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for restarts in 0..3 {
        assert_eq!(Store::open(&path(&dir)).unwrap().restarts, restarts);
    }
    let opened = Store::open(&path(&dir)).unwrap();
    opened.store.mark_stopped().await.unwrap();
    opened.store.close().await.unwrap();
    assert_eq!(Store::open(&path(&dir)).unwrap().restarts, 0);
}

#[tokio::test]
async fn corrupt_files_are_set_aside_and_a_new_fleet_begins() {
    let page_of_garbage = vec![0x5a_u8; 8192];
    let damage: [Damage<'_>; 4] = [
        ("garbage", Box::new(|path| std::fs::write(path, &page_of_garbage).unwrap())),
        (
            "a file cut off",
            Box::new(|path| {
                let bytes = std::fs::read(path).unwrap();
                std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
            }),
        ),
        (
            "a table missing",
            Box::new(|path| {
                Connection::open(path).unwrap().execute_batch("DROP TABLE orders").unwrap();
            }),
        ),
        (
            "a value nobody wrote",
            Box::new(|path| {
                Connection::open(path).unwrap().execute_batch("UPDATE hive SET record = 'x'").unwrap();
            }),
        ),
    ];
    for (what, damage) in damage {
        let dir = tempfile::tempdir().unwrap();
        let opened = Store::open(&path(&dir)).unwrap();
        let fleet_id = opened.state.fleet_id.clone();
        opened.store.save(Arc::new(full_state(&fleet_id))).await.unwrap();
        opened.store.close().await.unwrap();
        // Into the main file, as after a clean end: what is damaged is what is read.
        Connection::open(path(&dir)).unwrap().pragma_update(None, "journal_mode", "DELETE").unwrap();
        damage(&path(&dir));
        let opened = Store::open(&path(&dir)).unwrap();
        assert_ne!(opened.state.fleet_id, fleet_id, "{what}");
        let aside = opened.set_aside.expect(what);
        assert!(aside.exists(), "{what}: kept for whoever wants to look");
        opened.store.save(Arc::new(full_state("other"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_newer_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(&path(&dir)).unwrap().store.close().await.unwrap();
    Connection::open(path(&dir)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Store::open(&path(&dir)).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 99, .. }), "{error}");
    assert_eq!(schema::version(&Connection::open(path(&dir)).unwrap()).unwrap(), 99);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // A folder in the file's place stops root too, unlike permission bits.
    std::fs::create_dir(path(&dir)).unwrap();
    let error = Store::open(&path(&dir)).unwrap_err();
    assert!(error.to_string().contains(&path(&dir).display().to_string()), "{error}");
    assert!(path(&dir).is_dir());

    let locked = tempfile::tempdir().unwrap();
    std::fs::set_permissions(locked.path(), PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(locked.path().join("probe"), "").is_err() {
        assert!(matches!(Store::open(&path(&locked)), Err(StoreError::Open { .. })));
    }
}
