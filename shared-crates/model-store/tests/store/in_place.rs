//! `file:` sources: the user's own file, looked at and left alone.

use model_store::{ModelError, ModelStore};

use crate::{CONTENT, sha256_of, source};

#[tokio::test]
async fn a_file_is_used_where_it_is_and_outlives_its_removal_from_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.gguf");
    std::fs::write(&file, CONTENT).unwrap();
    let store = ModelStore::new(folder.path().join("models"));
    let wanted = source(&format!("file:{}", file.display()));
    assert_eq!(store.ensure("m", &wanted, Some(&sha256_of(CONTENT)), |_| {}).await.unwrap(), file);
    assert_eq!(store.path("m"), Some(file.clone()));
    assert!(store.remove("m").unwrap());
    assert!(file.exists());
}

#[tokio::test]
async fn a_missing_and_a_wrong_file_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.gguf");
    let store = ModelStore::new(folder.path().join("models"));
    let wanted = source(&format!("file:{}", file.display()));
    let error = store.ensure("m", &wanted, None, |_| {}).await.unwrap_err();
    assert!(matches!(&error, ModelError::FileMissing { path } if *path == file), "{error:?}");

    std::fs::write(&file, CONTENT).unwrap();
    let error = store.ensure("m", &wanted, Some(&sha256_of(b"other")), |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::WrongDigest { .. }), "{error:?}");
    assert!(file.exists(), "a file of the user's is never removed");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_still_serves_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.gguf");
    std::fs::write(&file, CONTENT).unwrap();
    // A file where the folder should be: nothing can be written below it, not even by root.
    let store = ModelStore::new(file.join("models"));
    let wanted = source(&format!("file:{}", file.display()));
    assert_eq!(store.ensure("m", &wanted, Some(&sha256_of(CONTENT)), |_| {}).await.unwrap(), file);
    let url = source("https://localhost/m.gguf");
    let error = store.ensure("m", &url, None, |_| {}).await.unwrap_err();
    assert!(matches!(error, ModelError::Io { action: "create", .. }), "{error:?}");
}
