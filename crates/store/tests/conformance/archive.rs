//! What is left when the rules have gone on and what was over is gone: books that balance, and answers.

use adjutant_core::command::{Answer, Command, UsageEvent};
use adjutant_core::limit::Scope;
use adjutant_core::rejection::Slug;
use adjutant_core::retention::Retention;
use adjutant_core::time::Span;
use adjutant_store::Store;
use adjutant_store::memory::Memory;
use adjutant_store::sqlite::Sqlite;
use adjutant_store::sqlite::audit::audit;

use crate::play::{Play, by, complete, register, submit, sync, usage};
use crate::story;
use crate::subject::SqliteFile;

/// Lets everything go that can after the story, and says whether the books still balance.
fn after_the_story<S: Store>(play: &mut Play<S>) -> u64 {
    story::heartbeats(play, Span::from_secs(60));
    play.done(complete("release", "ada", true));
    play.done(complete("first", "ada", true));
    play.skip(Span::HOUR.times(40));
    // Something of today, in every scope of what goes.
    play.done(register("eve", 9));
    play.done(submit("today", |task| {
        by(task, "eve");
        task.project = Some("project".into());
        task.repo = Some("owner/name".into());
    }));
    play.done(sync("eve", &[("today", 1)]));
    play.done(usage("today", "eve", UsageEvent::Usage, 100));
    let at_once = Retention {
        finished_age: Some(Span::ZERO),
        event_age: Some(Span::ZERO),
        ..Retention::default()
    };
    let mut gone = 0;
    loop {
        let forgotten = play.store.forget(&at_once, play.now).expect("it is forgotten");
        gone += forgotten.tasks + forgotten.jobs;
        if !forgotten.more {
            return gone;
        }
    }
}

// I9
#[test]
fn counters_are_still_the_sums_of_lines_and_archive() {
    let (_directory, path) = SqliteFile::place();
    let mut play = story::play(Sqlite::open(&path).expect("a new file is opened"));
    let gone = after_the_story(&mut play);
    // Two that are done and needed by nothing, two that were cancelled, and a job.
    assert_eq!(gone, 5);
    let report = audit(&path).expect("it is opened");
    assert_eq!(report.findings, []);
    assert!(report.events < report.last_seq);
    // Work goes on, also after a reset.
    play.done(complete("today", "eve", true));
    play.done(Command::Reset(Scope::Fleet));
    play.done(submit("tomorrow", |_| ()));
    drop(play);
    assert_eq!(audit(&path).expect("it is opened").findings, []);
    // The archive is part of the books: what is missing there is missed.
    let db = rusqlite::Connection::open(&path).expect("it is opened");
    db.execute_batch("UPDATE archive SET jobs = jobs + 1 WHERE scope = 'project:project'")
        .expect("it is changed");
    drop(db);
    let report = audit(&path).expect("it is opened");
    assert!(
        report
            .findings
            .iter()
            .any(|finding| finding.message.contains("project:project counts for its total")),
        "{report:?}"
    );
}

/// A request that changed nothing is remembered for a day, also when what it named was over long before.
#[test]
fn a_repeated_batch_is_answered_for_what_is_left_of_it() {
    let mut play = story::play(Memory::alone());
    play.done(complete("release", "ada", true));
    play.skip(Span::HOUR.times(60));
    let key = adjutant_core::command::IdempotencyKey {
        token: "admin".into(),
        key: "again".into(),
        digest: [9; 32],
    };
    let item = |id: &str| match complete(id, "ada", true) {
        Command::Complete { completions, .. } => completions.into_iter().next().expect("it is one"),
        _ => unreachable!("it is a completion"),
    };
    // Both are done, as they were before.
    let command = Command::Complete {
        completions: vec![item("build"), item("test"), item("none")],
        batch: true,
    };
    let first = play.say_with(command.clone(), Some(key.clone()));
    let Some(Ok(Answer::Batch(first))) = first else {
        panic!("a batch is answered: {first:?}");
    };
    assert!(first[0].is_ok() && first[1].is_ok() && first[2].is_err());
    // What it needs to go: nothing waits for it any more.
    play.done(Command::Cancel {
        id: "mourns".into(),
        cascade: false,
    });
    let at_once = Retention {
        finished_age: Some(Span::ZERO),
        ..Retention::default()
    };
    while play
        .store
        .forget(&at_once, play.now)
        .expect("it is forgotten")
        .more
    {}
    let again = play.say_with(command, Some(key));
    let Some(Ok(Answer::Batch(again))) = again else {
        panic!("a batch is answered: {again:?}");
    };
    let slugs: Vec<Option<Slug>> = again
        .iter()
        .map(|item| item.as_ref().err().map(|no| no.slug))
        .collect();
    assert_eq!(slugs, [Some(Slug::TaskNotFound); 3]);
}

/// Both stores let the same go.
#[test]
fn the_stores_agree_on_what_goes() {
    let (_directory, path) = SqliteFile::place();
    let mut one = story::play(Sqlite::open(&path).expect("a new file is opened"));
    let mut other = story::play(Memory::alone());
    assert_eq!(after_the_story(&mut one), after_the_story(&mut other));
    let counts = |store: &dyn Store| {
        let mut reader = store.reader().expect("a reader is given");
        let events = reader.events(0, 10_000).expect("they are read");
        (reader.counts().expect("they are counted"), events)
    };
    assert_eq!(counts(&one.store), counts(&other.store));
}
