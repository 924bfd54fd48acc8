//! Transcripts in the documented forms, and what is read of each.

use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;

use super::*;

/// A transcript and what is expected of it.
struct Case {
    /// Below `tests/transcripts`; the directory names the adapter.
    file: &'static str,
    exit_code: i32,
    stderr: &'static str,
    expected: Expected,
}

/// Model, fresh input, cached input, output and nano-dollars.
type Used = (Option<String>, u64, u64, u64, Option<i64>);

/// What is read of a transcript.
#[derive(PartialEq, Eq, Debug)]
struct Expected {
    /// What went wrong, if anything.
    problem: Option<String>,
    output: String,
    usage: Vec<Used>,
    session: Option<String>,
    /// For how many seconds its provider takes no requests.
    limited_secs: Option<i64>,
}

fn case(file: &'static str, output: &str) -> Case {
    Case {
        file,
        exit_code: 0,
        stderr: "",
        expected: Expected {
            problem: None,
            output: output.to_owned(),
            usage: Vec::new(),
            session: None,
            limited_secs: None,
        },
    }
}

impl Case {
    fn exits(mut self, code: i32, stderr: &'static str) -> Self {
        (self.exit_code, self.stderr) = (code, stderr);
        self
    }

    fn fails(mut self, problem: &str) -> Self {
        self.expected.problem = Some(problem.to_owned());
        self
    }

    fn limited(mut self, secs: i64) -> Self {
        self.expected.limited_secs = Some(secs);
        self
    }

    fn uses(mut self, model: &str, counts: [u64; 3], nanos: Option<i64>) -> Self {
        let model = (!model.is_empty()).then(|| model.to_owned());
        let [fresh, cached, output] = counts;
        self.expected.usage.push((model, fresh, cached, output, nanos));
        self
    }

    fn session(mut self, id: &str) -> Self {
        self.expected.session = Some(id.to_owned());
        self
    }
}

const SONNET: &str = "claude-sonnet-4-5-20250929";
const CLAUDE: &str = "5f0c7a52-3d1e-4b8a-9a53-0f3a6f2f7c11";
const CODEX: &str = "0199a213-81c0-7800-8aa1-bbab2a035a53";
const GEMINI: &str = "0f3b9a1c-77aa-4d0e-a8f6-2f8c5a4e9d10";
const OPENCODE: &str = "ses_5d1c7e2b9ffe";
const CURSOR: &str = "c6b62c6f-7ead-4fd6-9922-e952131177ff";
const AMP: &str = "T-2ca9f5d3-9ad8-4b2d-bb20-d80ee8ac4c06";
const AGY: &str = "b7e0c1aa-90f0-4a51-8d11-6c4d8ce2f5a9";

fn claude() -> Vec<Case> {
    let haiku = "claude-haiku-4-5-20251001";
    vec![
        case("claude/success.jsonl", "All tests pass.")
            .session(CLAUDE)
            .uses(SONNET, [530, 9_000, 220], Some(41_200_000))
            .uses(haiku, [400, 0, 40], Some(4_400_000)),
        case("claude/success_array.json", "All tests pass.")
            .session(CLAUDE)
            .uses(SONNET, [530, 9_000, 220], Some(41_200_000))
            .uses(haiku, [400, 0, 40], Some(4_400_000)),
        case("claude/success_json.json", "All tests pass.")
            .session(CLAUDE)
            .uses("", [530, 9_000, 220], Some(45_600_000)),
        case("claude/helper.jsonl", "Done by the helper.")
            .session(CLAUDE)
            .fails("exit code 0, and claude printed no result")
            .uses(SONNET, [30, 0, 6], None)
            .uses(haiku, [100, 0, 50], None),
        case("claude/failure_api.jsonl", "API Error: 529 overloaded")
            .exits(1, "")
            .session(CLAUDE)
            .fails("API error 529: API Error: 529 overloaded"),
        case("claude/failure_turns.jsonl", "All tests pass.")
            .exits(1, "")
            .session(CLAUDE)
            .fails("error_max_turns")
            .uses(SONNET, [530, 9_000, 220], Some(41_200_000))
            .uses(haiku, [400, 0, 40], Some(4_400_000)),
        case("claude/failure_budget.jsonl", "All tests pass.")
            .session(CLAUDE)
            .fails("error_max_budget_usd: Reached the maximum budget ($0.05)")
            .uses(SONNET, [530, 9_000, 220], Some(41_200_000))
            .uses(haiku, [400, 0, 40], Some(4_400_000)),
        case("claude/rate_limit.jsonl", "Let me look.")
            .exits(1, "")
            .session(CLAUDE)
            .fails("API error 429: You've reached your usage limit")
            .limited(4_000)
            .uses(SONNET, [510, 0, 1], Some(4_000_000)),
        case("claude/rate_limit_over.jsonl", "")
            .exits(1, "")
            .session(CLAUDE)
            .fails("error_during_execution: The connection broke")
            .uses(SONNET, [1, 0, 1], Some(1_000_000)),
        case("claude/truncated.jsonl", "Let me look.")
            .exits(137, "Killed")
            .session(CLAUDE)
            .fails("exit code 137, and claude printed no result; not to be read as JSON: 1: Killed")
            .uses(SONNET, [510, 0, 1], None),
        // Its messages name the model otherwise than its result.
        case("claude/success_bedrock.jsonl", "All tests pass.")
            .session(CLAUDE)
            .uses(
                "us.anthropic.claude-opus-4-6-v1",
                [530, 9_000, 220],
                Some(41_200_000),
            )
            .uses(haiku, [400, 0, 40], Some(4_400_000)),
        case("claude/unknown.jsonl", "All tests pass.").session(CLAUDE),
    ]
}

fn codex() -> Vec<Case> {
    vec![
        case("codex/success.jsonl", "Fixed the parser.")
            .session(CODEX)
            .uses("", [315, 24_448, 122], None),
        case("codex/two_turns.jsonl", "Two.")
            .session(CODEX)
            .uses("", [1_800, 1_200, 90], None),
        case("codex/failure.jsonl", "")
            .exits(1, "")
            .session(CODEX)
            .fails("stream disconnected before completion"),
        case("codex/rate_limit.jsonl", "")
            .exits(1, "")
            .session(CODEX)
            .fails("You've hit your usage limit. Try again in 2 hours 30 minutes.")
            .limited(9_000),
        case("codex/truncated.jsonl", "I will run the tests.")
            .session(CODEX)
            .fails("exit code 0, and codex printed no result"),
    ]
}

fn gemini() -> Vec<Case> {
    vec![
        case("gemini/success.jsonl", "The bug is fixed.")
            .session(GEMINI)
            .uses("gemini-2.5-pro", [400, 600, 300], None),
        case("gemini/success_models.jsonl", "Fixed.")
            .session(GEMINI)
            .uses("gemini-2.5-flash", [200, 0, 100], None)
            .uses("gemini-2.5-pro", [200, 600, 200], None),
        case("gemini/success_json.json", "The bug is fixed.")
            .session(GEMINI)
            .uses("gemini-2.5-pro", [400, 600, 300], None),
        case("gemini/failure.jsonl", "")
            .exits(53, "")
            .session(GEMINI)
            .fails("FatalTurnLimitedError: Reached max session turns")
            .uses("gemini-2.5-pro", [400, 600, 300], None),
        case("gemini/failure_json.json", "")
            .exits(41, "")
            .session(GEMINI)
            .fails("FatalAuthenticationError: Please set an auth method"),
        case("gemini/rate_limit.jsonl", "")
            .exits(1, "")
            .session(GEMINI)
            .fails("QuotaError: You have exhausted your quota on this model. Your quota will reset after 1h30m5s.")
            .limited(5_405),
        case("gemini/truncated.jsonl", "Reading.")
            .exits(130, "")
            .session(GEMINI)
            .fails("exit code 130 (cancelled), and gemini printed no result"),
    ]
}

fn opencode() -> Vec<Case> {
    vec![
        case("opencode/success.jsonl", "Renamed the function.")
            .session(OPENCODE)
            .uses("", [22_089, 21_515, 50], Some(3_570_000)),
        case("opencode/failure.jsonl", "")
            .exits(1, "")
            .session(OPENCODE)
            .fails("ProviderAuthError: The key is not valid")
            .uses("", [10, 0, 2], Some(1_000_000)),
        case("opencode/rate_limit.jsonl", "")
            .exits(1, "")
            .session(OPENCODE)
            .fails("APIError: Too Many Requests: rate limit exceeded, try again in 45s")
            .limited(45),
        case("opencode/truncated.jsonl", "Ren")
            .session(OPENCODE)
            .fails("exit code 0, and opencode printed no result")
            .uses("", [22_086, 100, 10], Some(2_500_000)),
    ]
}

fn cursor() -> Vec<Case> {
    vec![
        case("cursor/success.jsonl", "Wrote the tests.")
            .session(CURSOR)
            .uses("gpt-5", [150, 900, 45], None),
        case("cursor/success_json.json", "Wrote the tests.").session(CURSOR),
        case("cursor/failure.jsonl", "Reading.")
            .exits(1, "Error: not signed in")
            .session(CURSOR)
            .fails("exit code 1, and cursor printed no result: Error: not signed in"),
        case("cursor/failure.jsonl", "Reading.")
            .exits(1, "Error: rate limit exceeded, try again in 10 minutes")
            .session(CURSOR)
            .fails("exit code 1, and cursor printed no result: Error: rate limit exceeded, try again in 10 minutes")
            .limited(600),
        case("cursor/failure_result.jsonl", "")
            .exits(1, "")
            .session(CURSOR)
            .fails("The model is not available"),
        case("cursor/truncated.jsonl", "Reading.")
            .session(CURSOR)
            .fails("exit code 0, and cursor printed no result; not to be read as JSON: 1"),
    ]
}

fn amp() -> Vec<Case> {
    vec![
        case("amp/success.jsonl", "Upgraded the crate.")
            .session(AMP)
            .uses("claude-opus-4", [115, 100, 50], None),
        case("amp/failure.jsonl", "")
            .exits(1, "")
            .session(AMP)
            .fails("Invalid or missing API key")
            .uses("claude-opus-4", [110, 0, 20], None),
        case("amp/rate_limit.jsonl", "")
            .exits(1, "")
            .session(AMP)
            .fails("429 rate limit exceeded, retry after 20 seconds")
            .limited(20),
        case("amp/truncated.jsonl", "Looking.")
            .session(AMP)
            .fails("exit code 0, and amp printed no result")
            .uses("claude-opus-4", [110, 0, 20], None),
    ]
}

fn goose() -> Vec<Case> {
    vec![
        case("goose/success.jsonl", "The docs are there.").uses("", [500, 700, 300], Some(12_300_000)),
        case("goose/success_bare.jsonl", "Done."),
        case("goose/failure.jsonl", "Looking.")
            .fails("Authentication failed: no key")
            .uses("", [90, 0, 10], None),
        case("goose/rate_limit.jsonl", "")
            .exits(1, "")
            .fails("Rate limit exceeded, retry after 90s")
            .limited(90),
        case("goose/truncated.jsonl", "Looking.").fails("exit code 0, and goose printed no result"),
    ]
}

fn agy() -> Vec<Case> {
    vec![
        case("agy/success.json", "The page loads.")
            .session(AGY)
            .uses("", [800, 400, 150], None),
        case("agy/failure.json", "")
            .exits(1, "")
            .session(AGY)
            .fails("ERROR: The model is not available")
            .uses("", [800, 400, 150], None),
        case("agy/rate_limit.json", "")
            .exits(1, "")
            .session(AGY)
            .fails("ERROR: RESOURCE_EXHAUSTED: quota exceeded, retry in 2m")
            .limited(120),
        case("agy/truncated.json", "")
            .fails("exit code 0, and agy printed no result; not to be read as JSON: 1"),
    ]
}

fn aider() -> Vec<Case> {
    let model = "claude-3-7-sonnet-20250219";
    vec![
        case("aider/success.txt", "").uses(model, [5_200, 1_200, 400], Some(20_000_000)),
        case("aider/failure.txt", "").fails(
            "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided",
        ),
        case("aider/rate_limit.txt", "")
            .fails(
                "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached for gpt-4o. Please try \
                 again in 1m12s.",
            )
            .limited(72),
        // What looks like words of aider is part of an answer.
        case("aider/success_words.txt", "").uses("gpt-4o", [3_500, 0, 250], Some(30_000_000)),
        // An answer came, and the next one did not.
        case("aider/failure_later.txt", "")
            .fails("litellm.InternalServerError: AnthropicException - Overloaded")
            .uses("gpt-4o", [1_200, 0, 50], Some(10_000_000)),
        case("aider/recovered.txt", "").uses("gpt-4o", [1_200, 0, 50], None),
        case("aider/truncated.txt", "").exits(1, "boom").fails("exit code 1: boom"),
    ]
}

fn cases() -> Vec<Case> {
    let all = [
        claude(),
        codex(),
        gemini(),
        opencode(),
        cursor(),
        amp(),
        goose(),
        agy(),
        aider(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn every_transcript_is_read_as_documented_however_it_is_cut() {
    for Case {
        file,
        exit_code,
        stderr,
        expected,
    } in cases()
    {
        let kind: AdapterKind = file.split('/').next().unwrap().parse().unwrap();
        let transcript = std::fs::read(transcripts().join(file)).unwrap();
        // What is not understood is told as it is; a text for people always.
        let as_it_is = String::from_utf8_lossy(&transcript).into_owned();
        let expected = Expected {
            output: match expected.output.as_str() {
                "" if expected.problem.is_some() || kind == AdapterKind::Aider => as_it_is,
                _ => expected.output,
            },
            problem: expected.problem.map(|problem| match expected.limited_secs {
                Some(secs) => {
                    let until = Timestamp::from_micros(NOW.as_micros() + secs * 1_000_000);
                    format!("rate limited until {until}: {problem}")
                }
                None => problem,
            }),
            ..expected
        };
        for size in [transcript.len(), 1, 7, 4_096] {
            let ended = play(kind, &transcript, size.max(1), exit_code, stderr, Past::default());
            let mut usage: Vec<Used> = ended
                .usage
                .into_iter()
                .map(|Totals { model, tokens, cost }| {
                    let Tokens {
                        tokens_in,
                        tokens_out,
                        tokens_cached,
                    } = tokens;
                    (
                        model,
                        tokens_in,
                        tokens_cached,
                        tokens_out,
                        cost.map(Money::as_nanos),
                    )
                })
                .collect();
            usage.sort_by_key(|one| expected.usage.iter().position(|other| other.0 == one.0));
            let read = Expected {
                problem: ended.outcome.problem,
                output: ended.output,
                usage,
                session: ended.session.map(|session| session.id),
                limited_secs: ended
                    .outcome
                    .limited_until
                    .map(|until| (until.as_micros() - NOW.as_micros()) / 1_000_000),
            };
            assert_eq!(read, expected, "{file} in pieces of {size}");
        }
    }
}

#[test]
fn no_transcript_is_left_out_and_every_program_has_one_of_each_kind() {
    let mut files: Vec<String> = Vec::new();
    for directory in std::fs::read_dir(transcripts()).unwrap() {
        let directory = directory.unwrap();
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let name = file.unwrap().file_name();
            files.push(format!("{}/{}", directory.file_name().display(), name.display()));
        }
    }
    for file in &files {
        assert!(cases().iter().any(|case| case.file == file), "{file} is not read");
    }
    for kind in AdapterKind::ALL
        .into_iter()
        .filter(|kind| *kind != AdapterKind::Plain)
    {
        for what in ["success", "failure", "rate_limit", "truncated"] {
            let start = format!("{kind}/{what}");
            // Cursor prints nothing when it fails: its limits are told on stderr.
            let is_there = files.iter().any(|file| file.starts_with(&start)) || start == "cursor/rate_limit";
            assert!(is_there, "{start}");
        }
    }
}

#[test]
fn usage_is_known_before_the_result_where_it_is_streamed() {
    for (kind, file, events, tokens_in) in [
        (AdapterKind::Claude, "claude/success.jsonl", 2, 510),
        (AdapterKind::Amp, "amp/success.jsonl", 2, 110),
        (AdapterKind::Opencode, "opencode/success.jsonl", 3, 22_086),
        (AdapterKind::Codex, "codex/two_turns.jsonl", 4, 800),
    ] {
        let transcript = std::fs::read_to_string(transcripts().join(file)).unwrap();
        let adapter = Adapter::new(kind, &[kind.name().to_owned()]);
        let feed = Feed::new(adapter.listener(Vec::new(), Past::default()));
        let mut reported = false;
        for line in transcript.split_inclusive('\n').take(events) {
            reported = feed.stdout(line.as_bytes());
        }
        assert!(reported, "{file}");
        assert_eq!(feed.usage(|usage| usage.sum().0.tokens_in), tokens_in, "{file}");
    }
}

#[test]
fn a_resumed_thread_of_codex_counts_only_what_is_new() {
    let transcript = std::fs::read(transcripts().join("codex/success.jsonl")).unwrap();
    let counted = Tokens {
        tokens_in: 300,
        tokens_out: 100,
        tokens_cached: 20_000,
    };
    let resumed = |id: &str, counted| Past {
        resumed: Some(Session {
            id: id.into(),
            counted,
        }),
    };
    let used = |past| {
        let ended = play(AdapterKind::Codex, &transcript, 100, 0, "", past);
        let session = ended.session.unwrap();
        assert_eq!(
            session.counted,
            Tokens {
                tokens_in: 315,
                tokens_out: 122,
                tokens_cached: 24_448
            }
        );
        let tokens = ended.usage[0].tokens;
        (tokens.tokens_in, tokens.tokens_cached, tokens.tokens_out)
    };
    assert_eq!(used(resumed(CODEX, counted)), (15, 4_448, 22));
    assert_eq!(used(resumed(CODEX, Tokens::default())), (315, 24_448, 122));
    assert_eq!(
        used(resumed("another", counted)),
        (315, 24_448, 122),
        "another thread"
    );
    let more = Tokens {
        tokens_in: 5_000,
        ..counted
    };
    assert_eq!(
        used(resumed(CODEX, more)),
        (315, 24_448, 122),
        "a total of the run alone"
    );
}
