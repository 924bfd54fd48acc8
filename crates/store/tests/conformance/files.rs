//! The file of the embedded store: who may open it, and what it goes through.

use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;

use adjutant_core::task::{ClassId, Task};
use adjutant_store::sqlite::{OpenError, Sqlite};
use adjutant_store::{CommitError, Store, StoreError};
use rusqlite::Connection;

use crate::rows::{event, task};
use crate::subject::SqliteFile;
use crate::write::write;

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path).expect("the file is opened")
}

fn refused(path: &Path) -> OpenError {
    Sqlite::open(path).expect_err("the file is refused")
}

/// Commits one event; gives its number.
fn commit(store: &mut Sqlite) -> u64 {
    store
        .commit(&write().event(event(1)).changes())
        .expect("a turn is committed")
}

#[test]
fn a_file_that_is_open_is_in_use_by_another_name_too() {
    let (directory, path) = SqliteFile::place();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link is made");
    // The link leads nowhere yet: opening it makes the file that it names.
    let mut store = open(&link);
    commit(&mut store);
    let error = refused(&path);
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    drop(store);
    let store = open(&path);
    let error = refused(&link);
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    drop(store);
}

#[test]
fn a_file_that_is_open_is_in_use() {
    let (_directory, path) = SqliteFile::place();
    let mut store = open(&path);
    for _ in 0..2 {
        let error = refused(&path);
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!("{} is in use by another process", path.display())
        );
    }
    // The first one does not mind, and when it is gone the next one may.
    assert_eq!(commit(&mut store), 1);
    drop(store);
    assert_eq!(commit(&mut open(&path)), 2);
}

#[test]
fn a_file_that_was_closed_is_opened_with_all_that_was_committed() {
    let (_directory, path) = SqliteFile::place();
    let mut secrets = Vec::new();
    for seq in 1..=3 {
        let mut store = open(&path);
        assert_eq!(commit(&mut store), seq);
        let mut reader = store.reader().expect("a reader is given");
        assert_eq!(reader.last_seq().expect("it is read"), seq);
        secrets.push(reader.secret().expect("the secret is read"));
    }
    assert_eq!(secrets[0], secrets[1]);
    assert_eq!(secrets[0], secrets[2]);
}

#[test]
fn each_file_has_a_secret_of_its_own() {
    let secret = || {
        let (_directory, path) = SqliteFile::place();
        let mut reader = open(&path).reader().expect("a reader is given");
        reader.secret().expect("the secret is read")
    };
    assert_ne!(secret(), secret());
}

#[test]
fn a_start_moves_the_log_into_the_file() {
    let (directory, path) = SqliteFile::place();
    let mut store = open(&path);
    commit(&mut store);
    let crashed = directory.path().join("crashed.db");
    fs::copy(&path, &crashed).expect("the file is copied");
    let log = fs::read(directory.path().join("adjutant.db-wal")).expect("the log is read");
    assert!(!log.is_empty());
    fs::write(directory.path().join("crashed.db-wal"), log).expect("the log is copied");
    let next = open(&crashed);
    let left = fs::metadata(directory.path().join("crashed.db-wal")).expect("the log is there");
    assert_eq!(left.len(), 0);
    let mut reader = next.reader().expect("a reader is given");
    assert_eq!(reader.last_seq().expect("it is read"), 1);
}

/// A file is refused, and not a byte of it is changed.
fn is_left_alone(path: &Path) -> OpenError {
    let before = fs::read(path).expect("the file is read");
    let error = refused(path);
    assert!(fs::read(path).expect("the file is read") == before);
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    error
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let (_directory, path) = SqliteFile::place();
    drop(open(&path));
    let other = Connection::open(&path).expect("the file is opened");
    let known: u32 = other
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("the version is read");
    other
        .pragma_update(None, "user_version", known + 1)
        .expect("the version is written");
    drop(other);
    let error = is_left_alone(&path);
    let OpenError::Newer {
        found, known: own, ..
    } = error
    else {
        panic!("not what a newer version is: {error:?}");
    };
    assert_eq!((found, own), (known as usize + 1, known as usize));
}

#[test]
fn the_database_of_another_program_is_foreign() {
    for version in [0, 1, 99] {
        let (_directory, path) = SqliteFile::place();
        let other = Connection::open(&path).expect("a file is made");
        other
            .execute_batch("CREATE TABLE task (id TEXT)")
            .expect("a table is made");
        other
            .pragma_update(None, "user_version", version)
            .expect("the version is written");
        drop(other);
        let error = is_left_alone(&path);
        assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_foreign() {
    let texts = [
        "hello".to_owned(),
        "a list of things to do\n".repeat(100),
        "\0".repeat(5_000),
    ];
    for text in texts {
        let (_directory, path) = SqliteFile::place();
        fs::write(&path, &text).expect("a file is written");
        let error = is_left_alone(&path);
        assert!(
            matches!(error, OpenError::Foreign { .. }),
            "{:?}: {error:?}",
            &text[..1]
        );
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let (_directory, path) = SqliteFile::place();
    fs::write(&path, "").expect("a file is written");
    assert_eq!(commit(&mut open(&path)), 1);
}

#[test]
fn a_place_that_is_not_there_or_no_file_is_unusable() {
    let (directory, path) = SqliteFile::place();
    let no_directory = directory.path().join("none").join("adjutant.db");
    fs::create_dir(&path).expect("a directory is made");
    for wrong in [no_directory, path] {
        let error = refused(&wrong);
        assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&wrong.display().to_string()), "{text}");
    }
    assert!(!directory.path().join("none").exists());
}

/// A commit that breaks in its middle: two tasks of one id are no store's doing, and here they are a broken statement.
#[test]
fn a_commit_that_fails_in_its_middle_leaves_nothing_and_the_store_goes_on() {
    let (_directory, path) = SqliteFile::place();
    let mut store = open(&path);
    let class = adjutant_core::task::Class {
        id: ClassId(1),
        demand: adjutant_core::task::Demand::default(),
    };
    let first = task(1, &class.into());
    let twin = Task {
        id: first.id.clone(),
        ..task(2, &first.class)
    };
    let broken = write().task(&first).event(event(1)).task(&twin).changes();
    let error = store.commit(&broken).expect_err("ids are unique");
    assert!(
        matches!(error, CommitError::RolledBack(StoreError::Broken(_))),
        "{error:?}"
    );
    let mut reader = store.reader().expect("a reader is given");
    assert_eq!(reader.counts().expect("counts are read"), [0; 6]);
    assert_eq!(reader.last_seq().expect("it is read"), 0);
    assert_eq!(commit(&mut store), 1, "its numbers are free again");
    drop(store);
    assert_eq!(commit(&mut open(&path)), 2);
}

/// The directory of a small disk, for the test that runs itself on one.
#[cfg(target_os = "linux")]
const SMALL_DISK: &str = "ADJUTANT_TEST_SMALL_DISK";

/// Runs itself again with a disk of 4 MiB of its own, which takes no privileges where users may have namespaces.
/// Elsewhere there is nothing to run on, and nothing is tested.
#[cfg(target_os = "linux")]
#[test]
fn a_commit_on_a_full_disk_is_rolled_back_and_the_store_goes_on() {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return fill(Path::new(&disk));
    }
    let directory = tempfile::tempdir().expect("a directory is made");
    let on_a_small_disk = |program: &str, rest: &[&str]| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg(r#"mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@""#)
            .args([directory.path().as_os_str(), program.as_ref()])
            .args(rest)
            .env(SMALL_DISK, directory.path())
            .output()
    };
    if !on_a_small_disk("true", &[]).is_ok_and(|tried| tried.status.success()) {
        eprintln!("not tested: this machine lets no user have a small disk");
        return;
    }
    let itself = std::env::current_exe().expect("a test knows its program");
    let name = "files::a_commit_on_a_full_disk_is_rolled_back_and_the_store_goes_on";
    let run = on_a_small_disk(&itself.to_string_lossy(), &["--exact", name, "--nocapture"]);
    let run = run.expect("the program is run again");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(
        said.contains("1 passed"),
        "the test that ran was this one: {said}"
    );
}

#[cfg(target_os = "linux")]
fn fill(disk: &Path) {
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 1024 * 1024]).expect("there is room at first");
    let path = disk.join("adjutant.db");
    let mut store = open(&path);
    assert_eq!(store.space(), adjutant_store::Space::Low);
    let output = "x".repeat(200_000);
    let mut seq = 0;
    let error = loop {
        let changes = write()
            .output(crate::rows::key(1), &output)
            .event(event(1))
            .changes();
        match store.commit(&changes) {
            Ok(next) => {
                seq += 1;
                assert_eq!(next, seq);
                assert!(seq < 100, "4 MiB are full before long");
            }
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, CommitError::RolledBack(StoreError::Full(_))),
        "{error:?}"
    );
    let seen = |store: &Sqlite| {
        let mut reader = store.reader().expect("a reader is given");
        let output = reader.output(crate::rows::key(1)).expect("output is read");
        (reader.last_seq().expect("it is read"), output.len())
    };
    let before = seen(&store);
    assert_eq!(before.0, seq, "nothing of the turn is there");
    // It fails as often as it is tried, and goes on as soon as there is room.
    let again = store.commit(&write().output(crate::rows::key(1), &output).changes());
    assert!(
        matches!(again, Err(CommitError::RolledBack(StoreError::Full(_)))),
        "{again:?}"
    );
    assert_eq!(seen(&store), before);
    fs::remove_file(&ballast).expect("the ballast goes");
    assert_eq!(commit(&mut store), seq + 1);
    // A start needs room as well, to move the log into the file: here it finds it elsewhere.
    let (_elsewhere, roomy) = SqliteFile::place();
    fs::copy(&path, &roomy).expect("the file is copied");
    fs::copy(disk.join("adjutant.db-wal"), roomy.with_extension("db-wal")).expect("the log is copied");
    assert_eq!(seen(&open(&roomy)), (seq + 1, before.1));
}
