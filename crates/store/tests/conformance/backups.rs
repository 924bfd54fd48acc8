//! Backups of a file: whole, of one moment, while a server works on it; and put back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use adjutant_core::time::Span;
use adjutant_store::Store;
use adjutant_store::sqlite::backup::{CopyError, backup, restore};
use adjutant_store::sqlite::{OpenError, Sqlite, audit::audit};

use crate::play::{Play, submit};
use crate::story;
use crate::subject::SqliteFile;

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path).expect("the file is opened")
}

fn last_seq(store: &impl Store) -> u64 {
    let mut reader = store.reader().expect("a reader is given");
    reader.last_seq().expect("it is read")
}

#[test]
fn a_backup_of_a_store_at_work_has_all_of_it_and_nothing_of_what_comes_after() {
    let (directory, path) = SqliteFile::place();
    let copy = directory.path().join("copy.db");
    let mut play = story::play(open(&path));
    let before = last_seq(&play.store);
    let copied = backup(&path, &copy, false).expect("a backup is made");
    play.done(submit("after it", |_| ()));
    assert_eq!((copied.tasks, copied.last_seq), (15, before));
    let file = copy.metadata().expect("it is there");
    assert_eq!(copied.bytes, file.len());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(audit(&copy).expect("it is opened").findings, []);
    // It is a store like any other.
    let mut restored = Play::on(open(&copy), play.now);
    assert_eq!(last_seq(&restored.store), before);
    restored.done(submit("on its own", |_| ()));
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("the directory is read")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains("part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A backup or an audit of a large store may read while the server is started again.
#[test]
fn a_server_starts_works_and_ends_while_somebody_reads() {
    let (_directory, path) = SqliteFile::place();
    drop(story::play(open(&path)));
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let onlooker = rusqlite::Connection::open_with_flags(&path, flags).expect("the file is opened");
    let count = || -> i64 {
        onlooker
            .query_row("SELECT count(*) FROM task", [], |row| row.get(0))
            .expect("they are counted")
    };
    onlooker.execute_batch("BEGIN").expect("a moment is fixed");
    assert_eq!(count(), 15);
    for number in 0..3 {
        let mut play = Play::on(open(&path), story::begin() + Span::HOUR.times(6 + number));
        play.done(submit(&format!("new-{number}"), |_| ()));
    }
    assert_eq!(count(), 15);
    onlooker.execute_batch("COMMIT").expect("the moment is over");
    assert_eq!(count(), 18);
    assert_eq!(audit(&path).expect("it is opened").findings, []);
}

#[test]
fn a_backup_replaces_a_file_only_when_it_is_told_to() {
    let (directory, path) = SqliteFile::place();
    let copy = directory.path().join("copy.db");
    let _store = open(&path);
    fs::write(&copy, "precious").expect("a file is written");
    let error = backup(&path, &copy, false).expect_err("something is there");
    assert!(matches!(error, CopyError::Exists { .. }), "{error:?}");
    assert_eq!(fs::read(&copy).expect("it is read"), b"precious");
    backup(&path, &copy, true).expect("a backup is made");
    assert_eq!(audit(&copy).expect("it is opened").findings, []);
}

#[test]
fn a_backup_never_replaces_the_store_itself() {
    let (directory, path) = SqliteFile::place();
    let store = open(&path);
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link is made");
    let wal = directory.path().join("adjutant.db-wal");
    let lock = directory.path().join("adjutant.db.lock");
    let journal = directory.path().join("adjutant.db-journal");
    for target in [&path, &link, &wal, &lock, &journal] {
        let error = backup(&path, target, true).expect_err("it is the store");
        assert!(matches!(error, CopyError::Itself { .. }), "{error:?}");
    }
    assert_eq!(last_seq(&store), 0);
}

#[test]
fn a_backup_that_cannot_be_written_leaves_nothing() {
    let (directory, path) = SqliteFile::place();
    let _store = open(&path);
    for target in [directory.path().join("none/copy.db"), directory.path().join("..")] {
        let error = backup(&path, &target, true).expect_err("there is no such place");
        assert!(matches!(error, CopyError::Unwritable { .. }), "{error:?}");
    }
    assert!(!directory.path().join("none").exists());
    // What a backup that was killed left behind is in nobody's way.
    let copy = directory.path().join("copy.db");
    let part = directory.path().join("copy.db.part");
    fs::write(&part, vec![7; 100_000]).expect("a file is written");
    backup(&path, &copy, false).expect("a backup is made");
    assert!(!part.exists());
    assert_eq!(audit(&copy).expect("it is opened").findings, []);
}

#[test]
fn what_is_no_store_is_not_copied() {
    let (directory, path) = SqliteFile::place();
    let copy = directory.path().join("copy.db");
    let error = backup(&path, &copy, false).expect_err("there is nothing");
    assert!(
        matches!(error, CopyError::Source(OpenError::Unusable { .. })),
        "{error:?}"
    );
    fs::write(&path, "text ".repeat(1_000)).expect("a file is written");
    let error = backup(&path, &copy, false).expect_err("it is text");
    assert!(
        matches!(error, CopyError::Source(OpenError::Foreign { .. })),
        "{error:?}"
    );
    assert!(!copy.exists() && !path.with_extension("db.lock").exists());
}

#[test]
fn a_backup_is_put_back_where_nothing_is_and_nobody_works() {
    let (directory, path) = SqliteFile::place();
    let copy = directory.path().join("copy.db");
    let play = story::play(open(&path));
    let made = backup(&path, &copy, false).expect("a backup is made");
    let error = restore(&copy, &path).expect_err("a server has it");
    assert!(
        matches!(error, CopyError::Source(OpenError::InUse { .. })),
        "{error:?}"
    );
    drop(play);
    let error = restore(&copy, &path).expect_err("it is there");
    assert!(matches!(error, CopyError::Exists { .. }), "{error:?}");
    // A log that was left would be taken for that of the new file.
    fs::remove_file(&path).expect("it is removed");
    let log = path.with_extension("db-wal");
    fs::write(&log, "left").expect("a file is written");
    let error = restore(&copy, &path).expect_err("a log is there");
    assert!(
        matches!(&error, CopyError::Exists { path } if *path == log),
        "{error:?}"
    );
    fs::remove_file(&log).expect("it is removed");
    // The mark of the lost store is still there: that it was ahead does not matter.
    let restored = restore(&copy, &path).expect("it is put back");
    assert_eq!((restored.tasks, restored.last_seq), (made.tasks, made.last_seq));
    assert_eq!(
        path.metadata().expect("it is there").permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(last_seq(&open(&path)), made.last_seq);
}

#[test]
fn a_damaged_backup_is_not_put_back() {
    let (directory, path) = SqliteFile::place();
    drop(story::play(open(&path)));
    let copy = directory.path().join("copy.db");
    backup(&path, &copy, false).expect("a backup is made");
    let mut bytes = fs::read(&copy).expect("it is read");
    bytes[3 * 4096..6 * 4096].fill(0xAA);
    fs::write(&copy, bytes).expect("it is damaged");
    let elsewhere = directory.path().join("new.db");
    let error = restore(&copy, &elsewhere).expect_err("it is damaged");
    assert!(matches!(error, CopyError::Damaged { .. }), "{error:?}");
    assert!(!elsewhere.exists());
}
