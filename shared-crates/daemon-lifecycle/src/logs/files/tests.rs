//! Rotation, and what a death within one leaves.

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);
const POLICY: LogPolicy = LogPolicy { file_bytes_max: 100, files_kept: 3, age_max: Duration::from_secs(60) };

fn at(seconds: i64) -> Timestamp {
    NOW + Duration::from_secs(seconds.unsigned_abs())
}

fn open(dir: &Path, policy: LogPolicy) -> LogFiles {
    let path = dir.join("a.log");
    let aside = AsideFiles::find(dir).unwrap().take(&path);
    LogFiles::open(path, policy, aside, true).unwrap()
}

/// Every file's name behind `a.log`, with its content.
fn contents(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name.replace("a.log", ""), fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

fn expected(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// LOGS-03
#[test]
fn the_budget_holds_and_the_oldest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = open(dir.path(), POLICY);
    assert_eq!(files.room(), 100);
    for number in 0..6 {
        files.append(format!("{number}\n").as_bytes(), NOW).unwrap();
        assert_eq!(files.room(), 98);
        if number < 5 {
            files.rotate().unwrap();
        }
    }
    assert_eq!(contents(dir.path()), expected(&[("", "5\n"), (".1", "4\n"), (".2", "3\n"), (".3", "2\n")]));
    let (file, generation) = files.open_from(0).unwrap();
    assert_eq!((io::read_to_string(file).unwrap(), generation), ("2\n".to_owned(), GENERATION_FIRST + 2));
    let (file, generation) = files.open_before(files.generation()).unwrap().unwrap();
    assert_eq!((io::read_to_string(file).unwrap(), generation), ("4\n".to_owned(), GENERATION_FIRST + 4));
}

/// LOGS-04
#[test]
fn a_death_between_two_renames_costs_no_file() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("", "5\n"), (".1", "4\n"), (".3", "3\n")] {
        fs::write(dir.path().join(format!("a.log{name}")), text).unwrap();
    }
    let mut files = open(dir.path(), LogPolicy { age_max: Duration::MAX, ..POLICY });
    files.rotate().unwrap();
    assert_eq!(contents(dir.path()), expected(&[(".1", "5\n"), (".2", "4\n"), (".3", "3\n")]));
    files.append(b"6\n", NOW).unwrap();
    files.rotate().unwrap();
    assert_eq!(contents(dir.path()), expected(&[(".1", "6\n"), (".2", "5\n"), (".3", "4\n")]));
}

#[test]
fn what_somebody_puts_in_the_way_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = open(dir.path(), POLICY);
    files.append(b"1\n", NOW).unwrap();
    fs::write(dir.path().join("a.log.1"), "theirs\n").unwrap();
    fs::write(dir.path().join("a.log.old"), "not a number\n").unwrap();
    files.rotate().unwrap();
    assert_eq!(contents(dir.path()), expected(&[(".1", "1\n"), (".2", "theirs\n"), (".old", "not a number\n")]));
}

/// LOGS-06
#[test]
fn age_puts_an_idle_log_aside_and_removes_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = open(dir.path(), POLICY);
    assert_eq!(files.deadline(), None, "nothing can get old in an empty log");
    files.append(b"1\n", at(0)).unwrap();
    files.append(b"2\n", at(10)).unwrap();
    assert_eq!(files.deadline(), Some(at(60)));
    files.keep_policy(at(59)).unwrap();
    assert!(!files.is_too_old(at(59)) && files.is_too_old(at(60)));
    files.keep_policy(at(60)).unwrap();
    assert_eq!(contents(dir.path()), expected(&[(".1", "1\n2\n")]));
    assert_eq!(files.deadline(), Some(at(70)), "its last line is ten seconds younger than its first");
    files.keep_policy(at(69)).unwrap();
    assert_eq!(contents(dir.path()).len(), 1);
    files.keep_policy(at(70)).unwrap();
    assert_eq!((contents(dir.path()).len(), files.deadline()), (0, None));
}

/// LOGS-06
#[test]
fn the_age_of_a_log_found_is_told_by_its_first_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), format!("{NOW:.3} out hello\n")).unwrap();
    let files = open(dir.path(), POLICY);
    assert_eq!(files.deadline(), Some(at(60)));
}

/// LOGS-07
#[test]
fn a_new_policy_holds_for_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("", "5\n"), (".1", "4\n"), (".2", "3\n"), (".7", "2\n")] {
        fs::write(dir.path().join(format!("a.log{name}")), text).unwrap();
    }
    let eternal = LogPolicy { age_max: Duration::MAX, ..POLICY };
    let mut files = open(dir.path(), LogPolicy { files_kept: 9, ..eternal });
    assert_eq!(files.deadline(), None);
    files.keep_policy(NOW).unwrap();
    assert_eq!(contents(dir.path()).len(), 4);
    files.set_policy(LogPolicy { files_kept: 2, file_bytes_max: 1, ..eternal });
    files.keep_policy(NOW).unwrap();
    assert_eq!(contents(dir.path()), expected(&[(".1", "5\n"), (".2", "4\n")]));
    files.set_policy(LogPolicy { files_kept: 0, ..eternal });
    files.append(b"6\n", NOW).unwrap();
    files.rotate().unwrap();
    files.keep_policy(NOW).unwrap();
    assert_eq!(contents(dir.path()), []);
}

#[test]
fn a_log_that_somebody_removes_or_empties_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = open(dir.path(), POLICY);
    files.append(b"1\n", NOW).unwrap();
    fs::remove_file(dir.path().join("a.log")).unwrap();
    files.look().unwrap();
    assert_eq!(files.len(), 0);
    files.append(b"2\n", NOW).unwrap();
    assert_eq!(contents(dir.path()), expected(&[("", "2\n")]));
    fs::write(dir.path().join("a.log"), "").unwrap();
    files.look().unwrap();
    assert_eq!((files.len(), files.deadline()), (0, None));
}

#[test]
fn files_are_remembered_for_a_unit_that_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log.1"), "1\n").unwrap();
    fs::write(dir.path().join("a.log.01"), "").unwrap();
    let mut known = AsideFiles::find(dir.path()).unwrap();
    let path = dir.path().join("a.log");
    let files = LogFiles::open(path.clone(), POLICY, known.take(&path), false).unwrap();
    assert_eq!(known.take(&path), []);
    let (path, aside) = files.into_aside();
    known.put_back(&path, aside);
    assert_eq!(known.take(&path).len(), 1);
}
