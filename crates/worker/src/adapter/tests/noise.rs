//! What no program should print: garbage, halves, huge lines, too much.

use proptest::prelude::*;

use super::*;
use crate::adapter::MAX_ANSWER_BYTES;
use crate::adapter::documents::MAX_OBJECT_BYTES;

const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"Done."}"#;

/// Why it failed.
fn problem(transcript: &[u8], code: i32, stderr: &str) -> Option<String> {
    play(
        AdapterKind::Claude,
        transcript,
        10_000,
        code,
        stderr,
        Past::default(),
    )
    .outcome
    .problem
}

#[test]
fn each_kind_of_noise_is_a_failure_that_says_what_it_was() {
    let huge = format!(
        r#"{{"type":"result","subtype":"success","result":"{}"}}"#,
        "x".repeat(MAX_OBJECT_BYTES)
    );
    let invalid = [
        br#"{"type":"result","subtype":"success","result":""#.as_slice(),
        b"\xff\xfe\"}\n",
    ]
    .concat();
    let none = "exit code 0, and claude printed no result";
    for (transcript, code, stderr, expected) in [
        (b"".as_slice(), 0, "", none.to_owned()),
        (
            b"\x00\x01\x02 garbage \xff\n",
            0,
            "",
            format!("{none}: \u{FFFD}\u{1}\u{2} garbage \u{FFFD}"),
        ),
        (
            b"Invalid API key, please sign in\n",
            1,
            "",
            "exit code 1, and claude printed no result: Invalid API key, please sign in".into(),
        ),
        (
            b"Invalid API key\n",
            1,
            "a reason",
            "exit code 1, and claude printed no result: a reason".into(),
        ),
        (
            &RESULT.as_bytes()[..50],
            0,
            "",
            format!("{none}; not to be read as JSON: 1"),
        ),
        (&invalid, 0, "", format!("{none}; not to be read as JSON: 1")),
        (
            b"{\"type\":\"result\",}\n{nonsense}\n",
            0,
            "",
            format!("{none}; not to be read as JSON: 2"),
        ),
        (
            huge.as_bytes(),
            0,
            "",
            format!("{none}; passed over because they have over 2 MiB: 1"),
        ),
        (
            b"[1,2,3]\n\"result\"\nnull\n",
            0,
            "",
            format!("{none}: [1,2,3]\n\"result\"\nnull"),
        ),
        (
            RESULT.as_bytes(),
            3,
            "late",
            "exit code 3 after a result that says success: late".into(),
        ),
    ] {
        let text = String::from_utf8_lossy(&transcript[..transcript.len().min(60)]).into_owned();
        assert_eq!(problem(transcript, code, stderr), Some(expected), "{text}");
    }
}

#[test]
fn a_time_that_runs_out_after_the_result_does_not_undo_it() {
    let timed_out = |transcript: &str| {
        let exit = Exit::TimedOut(std::time::Duration::from_mins(1));
        let ended = play_until(
            exit,
            AdapterKind::Claude,
            transcript.as_bytes(),
            100,
            "",
            Past::default(),
        );
        ended.outcome.problem
    };
    assert_eq!(timed_out(RESULT), None);
    let failure = RESULT.replace("success", "error_max_turns");
    assert_eq!(timed_out(&failure).as_deref(), Some("error_max_turns: Done."));
    assert_eq!(timed_out("").as_deref(), Some("timed out after 1m"));
    // It went on to work after its result.
    let more = format!("{RESULT}\n{{\"type\":\"user\"}}\n");
    assert_eq!(timed_out(&more).as_deref(), Some("timed out after 1m"));
}

#[test]
fn noise_around_a_result_does_no_harm() {
    let huge = format!("{{\"x\":\"{}\"}}\n", "y".repeat(MAX_OBJECT_BYTES));
    let transcript = [
        "warming up\n{broken\n{\"a\":\"half\n",
        &huge,
        "[DEBUG] x\n",
        RESULT,
        "\nbye\n",
    ]
    .concat();
    let ended = play(
        AdapterKind::Claude,
        transcript.as_bytes(),
        1_000,
        0,
        "noise",
        Past::default(),
    );
    assert_eq!((ended.outcome.problem, ended.output.as_str()), (None, "Done."));
}

#[test]
fn what_the_server_refuses_is_not_passed_on() {
    let transcript = r#"{"type":"result","subtype":"success","is_error":true,"result":"a\u0000b"}"#;
    assert_eq!(
        problem(transcript.as_bytes(), 0, "").as_deref(),
        Some("a\u{FFFD}b")
    );
    let transcript = transcript.replace("true", "false");
    let ended = play(
        AdapterKind::Claude,
        transcript.as_bytes(),
        9,
        0,
        "",
        Past::default(),
    );
    assert_eq!(ended.output, "a\u{FFFD}b");
}

#[test]
fn endless_output_is_read_in_bounded_memory_and_its_end_is_kept() {
    for kind in AdapterKind::ALL
        .into_iter()
        .filter(|kind| *kind != AdapterKind::Plain)
    {
        let adapter = Adapter::new(kind, &[kind.name().to_owned()]);
        let mut listener = adapter.listener(Vec::new(), Past::default()).unwrap();
        let text = "lorem ipsum ".repeat(2_000);
        for number in 0..100 {
            let events = format!(
                concat!(
                    r#"{{"type":"assistant","message":{{"id":"m{0}","model":"m{0}","content":[{{"type":"text","text":"{1}"}}],"usage":{{"input_tokens":1,"output_tokens":1}}}}}}"#,
                    "\n",
                    r#"{{"type":"message","role":"assistant","content":"{1}","message":{{"id":"x","role":"assistant","content":"{1}"}}}}"#,
                    "\n",
                    r#"{{"type":"text","sessionID":"s{0}","part":{{"text":"{1}"}}}}"#,
                    "\nplain {1}\nTokens: 1k sent, 1k received.\n"
                ),
                number, text
            );
            listener.push(events.as_bytes());
            assert!(listener.held() <= 128 * 1024, "{kind}: {}", listener.held());
        }
        listener.finish();
        let answer = listener.report().take_answer();
        assert!(answer.len() <= MAX_ANSWER_BYTES + 100, "{kind}");
    }
}

proptest! {
    #[test]
    fn whatever_is_printed_is_read_to_its_end(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        json in "(\\{\"type\":\"(result|assistant|complete|error|text|step_finish|turn\\.completed|message)\"(,\"(usage|message|part|stats|error|item|result|tokens)\":(\\{\\}|\\[\\]|-1|1e999|\"x\"|null|\\{\"input_tokens\":-7\\})){0,3}\\}\n){0,4}",
    ) {
        for kind in AdapterKind::ALL.into_iter().filter(|kind| *kind != AdapterKind::Plain) {
            let transcript = [json.as_bytes(), &bytes].concat();
            let ended = play(kind, &transcript, 13, 1, "", Past::default());
            prop_assert!(ended.outcome.problem.is_some());
            prop_assert!(!ended.output.contains('\0'));
        }
    }
}
