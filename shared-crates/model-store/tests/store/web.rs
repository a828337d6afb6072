//! Sources on the web.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use model_store::{ModelError, ModelStore, Stage};

use crate::server::{Server, respond};
use crate::{CONTENT, names_in, sha256_of, source};

#[tokio::test]
async fn a_url_is_fetched_once_checked_and_kept() {
    let server = Server::of(CONTENT);
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path());
    let wanted = source(&server.url("a/m.gguf?x=1"));
    let digest = sha256_of(CONTENT);

    let mut last = None;
    let path = store.ensure("tiny", &wanted, Some(&digest), |progress| last = Some(progress)).await.unwrap();
    assert_eq!(path, folder.path().join("tiny/m.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    let last = last.expect("progress is told");
    assert_eq!((last.stage, last.done_bytes, last.total_bytes), (Stage::Downloading, 22, Some(22)));

    // Known now: no second request, the same path, found by name and in the list.
    assert_eq!(store.ensure("tiny", &wanted, Some(&digest), |_| panic!("nothing to do")).await.unwrap(), path);
    assert_eq!(server.requests.try_iter().count(), 1);
    assert_eq!(store.path("tiny"), Some(path.clone()));
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].name.as_str(), listed[0].size_bytes, listed[0].sha256), ("tiny", 22, digest));

    assert!(store.remove("tiny").unwrap());
    assert!(!store.remove("tiny").unwrap());
    assert_eq!((store.path("tiny"), names_in(folder.path())), (None, vec![]));
}

#[tokio::test]
async fn a_hub_file_comes_from_the_endpoint_s_resolve_path() {
    let server = Server::of(CONTENT);
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path()).with_hf_endpoint(server.url(""));
    let path = store.ensure("m", &source("hf:org/repo@v1::file=sub/m.gguf"), None, |_| {}).await.unwrap();
    assert_eq!(path, folder.path().join("m/m.gguf"));
    assert!(server.requests.recv().unwrap().starts_with("GET /org/repo/resolve/v1/sub/m.gguf "));
}

#[tokio::test]
async fn a_wrong_digest_keeps_nothing_and_names_both() {
    let server = Server::of(CONTENT);
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path());
    let expected = sha256_of(b"something else");
    let error = store.ensure("m", &source(&server.url("m.gguf")), Some(&expected), |_| {}).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&expected.to_string()) && text.contains(&sha256_of(CONTENT).to_string()), "{text}");
    assert_eq!((names_in(folder.path()), names_in(&folder.path().join("m"))), (vec!["m".into()], vec![]));
    assert_eq!(store.list().unwrap(), []);
}

#[tokio::test]
async fn a_broken_or_refused_download_leaves_nothing_under_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path());

    let short = Server::start(|stream| respond(stream, 200, 1000, CONTENT));
    let error = store.ensure("m", &source(&short.url("m.gguf")), None, |_| {}).await.unwrap_err();
    assert!(
        matches!(error, ModelError::BrokeOff { .. } | ModelError::Http { .. } | ModelError::Io { .. }),
        "{error:?}"
    );
    assert_eq!(names_in(&folder.path().join("m")), Vec::<String>::new());

    let absent = Server::start(|stream| respond(stream, 404, 0, b""));
    let error = store.ensure("m", &source(&absent.url("m.gguf")), None, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::Status { status: 404, .. }), "{error:?}");
    assert_eq!((store.path("m"), names_in(folder.path())), (None, vec!["m".into()]));
}

#[tokio::test]
async fn of_two_callers_one_downloads_and_the_other_waits() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let server = Server::start(move |stream| {
        // Held back until the second caller is seen waiting.
        released.lock().unwrap().recv().unwrap();
        respond(stream, 200, CONTENT.len(), CONTENT);
    });
    let folder = tempfile::tempdir().unwrap();
    let wanted = source(&server.url("m.gguf"));
    // Locks belong to open files: two stores in one process stand for two processes.
    let (first, second) = (ModelStore::new(folder.path()), ModelStore::new(folder.path()));
    let waited = Arc::new(Mutex::new(0));
    let see = || {
        let (waited, release) = (Arc::clone(&waited), release.clone());
        move |progress: model_store::Progress| {
            if progress.stage == Stage::Waiting {
                *waited.lock().unwrap() += 1;
                release.send(()).unwrap();
            }
        }
    };
    let (a, b) = tokio::join!(first.ensure("m", &wanted, None, see()), second.ensure("m", &wanted, None, see()));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!((*waited.lock().unwrap(), server.requests.try_iter().count()), (1, 1));
}

#[tokio::test]
async fn a_file_changed_behind_our_back_is_fetched_again() {
    let server = Server::of(CONTENT);
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path());
    let (wanted, digest) = (source(&server.url("m.gguf")), sha256_of(CONTENT));
    let path = store.ensure("m", &wanted, Some(&digest), |_| {}).await.unwrap();

    std::fs::write(&path, "damaged").unwrap();
    assert_eq!(store.path("m"), None);
    store.ensure("m", &wanted, Some(&digest), |_| {}).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    assert_eq!(server.requests.try_iter().count(), 2);

    // Right, but without its receipt: hashed, not fetched.
    std::fs::remove_file(folder.path().join("m/receipt.json")).unwrap();
    store.ensure("m", &wanted, Some(&digest), |_| {}).await.unwrap();
    assert_eq!(server.requests.try_iter().count(), 0);
}

#[tokio::test]
async fn a_name_that_leaves_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path());
    for name in ["", "../m", ".m", "a/b", "a b"] {
        let error = store.ensure(name, &source("file:/x"), None, |_| {}).await.unwrap_err();
        assert!(matches!(error, ModelError::BadName { .. }), "{name}: {error:?}");
        assert!(store.remove(name).is_err());
    }
}
