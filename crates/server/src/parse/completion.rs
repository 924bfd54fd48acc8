//! Ends of attempts, as agents report them.

use adjutant_core::attempt::Tokens;
use adjutant_core::command::Completion;
use adjutant_core::name::TaskId;
use adjutant_core::rejection::Rejection;
use adjutant_core::task::{MAX_LIST, TaskResult};
use adjutant_wire as wire;

use super::{count, id, lines, optional_id, optional_name, same_as_path};
use crate::access::caller::Caller;

/// The end of an attempt of the task that the path names.
pub(crate) fn of_task(
    task: TaskId,
    completion: wire::Completion,
    caller: &Caller,
) -> Result<Completion, Rejection> {
    same_as_path("id", completion.id.as_deref().unwrap_or_default(), task.as_str())?;
    finish(task, completion, caller)
}

/// The end of an attempt of the task that it names itself.
pub(crate) fn named(completion: wire::Completion, caller: &Caller) -> Result<Completion, Rejection> {
    let text = completion
        .id
        .as_deref()
        .ok_or_else(|| Rejection::field("id", "is missing"))?;
    finish(id("id", text)?, completion, caller)
}

fn finish(task: TaskId, completion: wire::Completion, caller: &Caller) -> Result<Completion, Rejection> {
    let agent = optional_id("agent_id", completion.agent_id.as_deref())?;
    let speaker = caller.speaker(&task, completion.attempt, agent)?;
    Ok(Completion {
        id: task,
        attempt: speaker.attempt,
        agent: speaker.agent,
        model: optional_name("model", completion.model.as_deref())?,
        tokens: tokens(&completion)?,
        cost: completion
            .cost
            .map(|cost| super::money("cost", cost))
            .transpose()?,
        rate_limited_until: completion.rate_limited_until,
        result: TaskResult {
            success: completion.success,
            output: completion.output,
            artifacts: lines("artifacts", completion.artifacts, MAX_LIST)?,
            error_message: completion.error_message,
        },
    })
}

/// The totals, when any of them is given; the others are then zero.
fn tokens(completion: &wire::Completion) -> Result<Option<Tokens>, Rejection> {
    let (tokens_in, tokens_out, tokens_cached) = (
        completion.tokens_in,
        completion.tokens_out,
        completion.tokens_cached,
    );
    if tokens_in.is_none() && tokens_out.is_none() && tokens_cached.is_none() {
        return Ok(None);
    }
    Ok(Some(Tokens {
        tokens_in: count("tokens_in", tokens_in.unwrap_or(0))?,
        tokens_out: count("tokens_out", tokens_out.unwrap_or(0))?,
        tokens_cached: count("tokens_cached", tokens_cached.unwrap_or(0))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::caller::tests::{attempt, caller};
    use crate::json::object;

    fn read(text: &str, caller: &Caller) -> Result<Completion, Rejection> {
        object(text.as_bytes()).and_then(|completion| of_task("t".into(), completion, caller))
    }

    #[test]
    fn a_completion_says_how_it_went_and_what_it_cost() {
        let done = read(
            r#"{"success": true, "output": "o", "artifacts": ["a"], "error_message": null, "attempt": 2,
                "agent_id": "a", "model": "m", "tokens_out": 5, "cost": 1.5}"#,
            &caller(&["agent:a"]),
        )
        .unwrap();
        assert_eq!((done.attempt, done.agent), (Some(2), Some("a".into())));
        assert_eq!(
            (done.result.output.as_str(), done.result.artifacts.as_slice()),
            ("o", &["a".to_owned()][..])
        );
        assert_eq!(
            done.tokens.map(|tokens| (tokens.tokens_in, tokens.tokens_out)),
            Some((0, 5))
        );
        assert_eq!(
            done.cost.map(adjutant_core::money::Money::as_nanos),
            Some(15_000_000)
        );
        assert_eq!(
            read(r#"{"success": false}"#, &caller(&["admin"])).unwrap().tokens,
            None
        );
    }

    #[test]
    fn it_must_say_whether_it_went_well_and_for_which_task() {
        let admin = caller(&["admin"]);
        for (text, field) in [
            ("{}", "success"),
            (r#"{"success": "yes"}"#, "success"),
            (r#"{"success": true, "id": "u"}"#, "id"),
            (r#"{"success": true, "tokens_in": 1000000000001}"#, "tokens_in"),
            (r#"{"success": true, "cost": -1}"#, "cost"),
        ] {
            let refused = read(text, &admin).unwrap_err();
            assert!(refused.message.contains(field), "{text}: {}", refused.message);
        }
        let unnamed = object(br#"{"success": true}"#).and_then(|completion| named(completion, &admin));
        assert!(unnamed.unwrap_err().message.starts_with("id: "));
    }

    #[test]
    fn nobody_completes_for_another_agent_or_attempt() {
        assert!(read(r#"{"success": true, "agent_id": "b"}"#, &caller(&["agent:a"])).is_err());
        assert_eq!(
            read(r#"{"success": true}"#, &attempt("t", 3)).unwrap().attempt,
            Some(3)
        );
        assert!(read(r#"{"success": true}"#, &attempt("u", 3)).is_err());
    }
}
