//! Live output: pieces are appended, and the newest that fit are kept.

use adjutant_core::task::TaskKey;
use adjutant_store::MAX_OUTPUT_BYTES;

use crate::rows::{key, task};
use crate::subject::Subject;
use crate::write::write;

for_every_store![
    pieces_of_output_are_joined_in_order,
    the_newest_mebibyte_of_output_is_kept,
    output_of_exactly_a_mebibyte_is_kept_whole,
    one_piece_larger_than_a_mebibyte_keeps_its_end,
    output_is_cut_between_characters,
    output_of_one_task_leaves_that_of_another_alone,
];

fn output(store: &mut dyn Subject, task: TaskKey) -> String {
    store.reader().output(task).expect("output is read")
}

/// The newest text that fits, on a boundary of characters.
fn newest(text: &str) -> &str {
    let excess = text.len().saturating_sub(MAX_OUTPUT_BYTES);
    let start = (excess..=text.len())
        .find(|index| text.is_char_boundary(*index))
        .expect("the end is one");
    &text[start..]
}

/// Appends pieces, a turn for each; what is kept is right after each of them.
fn appended(store: &mut dyn Subject, pieces: &[String]) {
    let class = store.class(&[]);
    write().task(&task(1, &class)).commit(store);
    let mut all = String::new();
    for piece in pieces {
        write().output(key(1), piece).commit(store);
        all.push_str(piece);
        // Not `assert_eq`: nobody wants to see a mebibyte twice.
        assert!(output(store, key(1)) == newest(&all), "after {} bytes", all.len());
    }
    store.now_and_after_a_crash(|store| {
        let kept = output(store, key(1));
        assert!(kept.len() <= MAX_OUTPUT_BYTES);
        assert!(kept == newest(&all));
    });
}

fn pieces_of_output_are_joined_in_order(store: &mut dyn Subject) {
    let class = store.class(&[]);
    write().task(&task(1, &class)).commit(store);
    write()
        .output(key(1), "one, ")
        .output(key(1), "two,\n")
        .commit(store);
    write().output(key(1), "").commit(store);
    write().output(key(1), "🦀").commit(store);
    store.now_and_after_a_crash(|store| assert_eq!(output(store, key(1)), "one, two,\n🦀"));
}

fn the_newest_mebibyte_of_output_is_kept(store: &mut dyn Subject) {
    let pieces: Vec<String> = (0..40)
        .map(|number| format!("{number:07} ").repeat(MAX_OUTPUT_BYTES / 8 / 15 + number))
        .collect();
    appended(store, &pieces);
}

fn output_of_exactly_a_mebibyte_is_kept_whole(store: &mut dyn Subject) {
    let half = MAX_OUTPUT_BYTES / 2;
    appended(
        store,
        &[
            "a".repeat(half),
            "b".repeat(half),
            "c".into(),
            "d".repeat(half - 1),
        ],
    );
}

fn one_piece_larger_than_a_mebibyte_keeps_its_end(store: &mut dyn Subject) {
    appended(
        store,
        &[
            "before".into(),
            format!("lost{}", "k".repeat(MAX_OUTPUT_BYTES)),
            "after".into(),
        ],
    );
}

fn output_is_cut_between_characters(store: &mut dyn Subject) {
    for width in 1..=4 {
        let mut pieces = vec!["🦀".repeat(MAX_OUTPUT_BYTES / 4)];
        pieces.extend((0..5).map(|_| "x".repeat(width)));
        pieces.push("é".repeat(MAX_OUTPUT_BYTES / 2 - 1));
        store.reopen();
        let class = store.class(&[]);
        let (number, mut all) = (i64::try_from(width).expect("it is small"), String::new());
        write().task(&task(number, &class)).commit(store);
        for piece in &pieces {
            write().output(key(number), piece).commit(store);
            all.push_str(piece);
            assert!(output(store, key(number)) == newest(&all), "in steps of {width}");
        }
    }
}

fn output_of_one_task_leaves_that_of_another_alone(store: &mut dyn Subject) {
    let class = store.class(&[]);
    write()
        .task(&task(1, &class))
        .task(&task(2, &class))
        .commit(store);
    write()
        .output(key(1), "of one")
        .output(key(2), &"x".repeat(MAX_OUTPUT_BYTES + 5))
        .output(key(1), " alone")
        .commit(store);
    assert_eq!(output(store, key(1)), "of one alone");
    assert_eq!(output(store, key(2)).len(), MAX_OUTPUT_BYTES);
    assert_eq!(output(store, key(3)), "");
}
