//! Usage that agents report, and output that attempts print.

use std::sync::Arc;

use adjutant_core::access::Power;
use adjutant_core::attempt::Tokens;
use adjutant_core::command::{Command, UsageEvent, UsageReport};
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::rejection::Rejection;
use adjutant_wire as wire;

use super::{MAX_TEXT_BYTES, bytes, count, id, optional_id, optional_name};
use crate::access::caller::Caller;

/// A usage report.
pub(crate) fn report(report: &wire::UsageReport, caller: &Caller) -> Result<UsageReport, Rejection> {
    let job: TaskId = id("job_id", &report.job_id)?;
    let (agent, attempt) = reporter(&job, report, caller)?;
    Ok(UsageReport {
        agent,
        attempt,
        job,
        model: optional_name("model", report.model.as_deref())?,
        tokens: Tokens {
            tokens_in: count("tokens_in", report.tokens_in)?,
            tokens_out: count("tokens_out", report.tokens_out)?,
            tokens_cached: count("tokens_cached", report.tokens_cached)?,
        },
        cost: report.cost.map(|cost| super::money("cost", cost)).transpose()?,
        total: report.total,
        event: match report.event {
            wire::UsageEvent::Usage => UsageEvent::Usage,
            wire::UsageEvent::JobStarted => UsageEvent::JobStarted,
            wire::UsageEvent::JobCompleted => UsageEvent::JobCompleted,
            wire::UsageEvent::JobFailed => UsageEvent::JobFailed,
            wire::UsageEvent::JobCancelled => UsageEvent::JobCancelled,
        },
    })
}

/// Who reports, and for which attempt. An attempt's token knows both.
fn reporter(
    job: &TaskId,
    report: &wire::UsageReport,
    caller: &Caller,
) -> Result<(AgentId, Option<u32>), Rejection> {
    if let (Power::Attempt { .. }, Some(agent)) = (&caller.actor.power, &caller.attempt_agent) {
        let speaker = caller.speaker(job, report.attempt, None)?;
        return Ok((agent.clone(), speaker.attempt));
    }
    let agent = id("agent_id", &report.agent_id)?;
    caller.must_act_as(&agent)?;
    Ok((agent, report.attempt))
}

/// Output of an attempt of `task`.
pub(crate) fn output(task: TaskId, output: wire::Output, caller: &Caller) -> Result<Command, Rejection> {
    bytes("text", &output.text, MAX_TEXT_BYTES)?;
    let agent = optional_id("agent_id", output.agent_id.as_deref())?;
    let speaker = caller.speaker(&task, output.attempt, agent)?;
    Ok(Command::Output {
        id: task,
        attempt: speaker.attempt,
        agent: speaker.agent,
        text: Arc::from(output.text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::caller::tests::{attempt, caller};
    use crate::json::object;

    fn read(text: &str, caller: &Caller) -> Result<UsageReport, Rejection> {
        object::<wire::UsageReport>(text.as_bytes()).and_then(|body| report(&body, caller))
    }

    #[test]
    fn a_report_says_who_used_what_for_which_job() {
        let text = r#"{"agent_id": "a", "job_id": "t", "model": "m", "tokens_in": 1, "tokens_out": 2, "cost": 0.5,
                       "event": "job_completed", "total": true}"#;
        let report = read(text, &caller(&["agent:a"])).unwrap();
        assert_eq!((report.tokens.counted(), report.total), (3, true));
        assert_eq!(report.event, UsageEvent::JobCompleted);
        assert!(read(text, &caller(&["agent:b"])).is_err());
        for (text, field) in [
            (r#"{"job_id": "t"}"#, "agent_id"),
            (r#"{"agent_id": "a"}"#, "job_id"),
            (
                r#"{"agent_id": "a", "job_id": "t", "tokens_in": -1}"#,
                "tokens_in",
            ),
            (
                r#"{"agent_id": "a", "job_id": "t", "tokens_out": 1000000000001}"#,
                "tokens_out",
            ),
            (
                r#"{"agent_id": "a", "job_id": "t", "event": "job_paused"}"#,
                "event",
            ),
        ] {
            let refused = read(text, &caller(&["admin"])).unwrap_err();
            assert!(refused.message.contains(field), "{text}: {}", refused.message);
        }
    }

    #[test]
    fn an_attempt_reports_for_itself_without_saying_who_it_is() {
        let report = read(
            r#"{"job_id": "t", "model": "m", "tokens_in": 1}"#,
            &attempt("t", 2),
        )
        .unwrap();
        assert_eq!((report.agent, report.attempt), ("a".into(), Some(2)));
        assert!(read(r#"{"job_id": "u"}"#, &attempt("t", 2)).is_err());
    }
}
