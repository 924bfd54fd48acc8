//! Agents that register, and their roll-calls.

use std::sync::Arc;

use adjutant_core::agent::{MAX_CAPABILITIES, Peer};
use adjutant_core::command::{MAX_BATCH, NewAgent, Running, Sync};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::Rejection;
use adjutant_core::time::{MICROS_PER_SECOND, Span};
use adjutant_wire as wire;
use reqwest::Url;

use super::{at_most, chars, completion, id, in_item, names, raw_json};
use crate::access::caller::Caller;
use crate::outward;

/// The most characters of an agent's name for people.
const MAX_NAME_CHARS: usize = 200;
/// The most characters of a session.
const MAX_SESSION_CHARS: usize = 128;
/// The most bytes of metadata.
const MAX_METADATA_BYTES: usize = 64 << 10;
/// The most attempts that one roll-call may list.
const MAX_RUNNING: usize = 10_000;

/// The protocol by which a server reaches agents.
pub(crate) const A2A: &str = "a2a";
/// What the environment variables begin with that have tokens for agents: others are none of an agent's business.
const TOKEN_PREFIX: &str = "ADJUTANT_PEER_";

/// Where an agent says that it is reached, before anybody has looked up where that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    url: Url,
    token_env: Option<Arc<str>>,
}

impl Place {
    /// Looks up where it is.
    pub(crate) async fn located(self, private: bool) -> Result<Peer, Rejection> {
        let Self { url, token_env } = self;
        Ok(Peer {
            addresses: outward::locate("url", &url, private).await?,
            url: url.as_str().into(),
            token_env,
        })
    }
}

/// An agent that registers, and where it is to be reached if no worker speaks for it.
pub(crate) fn new_agent(agent: wire::NewAgent) -> Result<(NewAgent, Option<Place>), Rejection> {
    let place = place(&agent)?;
    let own: AgentId = id("id", &agent.id)?;
    let name = agent.name.filter(|name| !name.is_empty()).unwrap_or(agent.id);
    chars("name", &name, MAX_NAME_CHARS)?;
    let agent = NewAgent {
        id: own,
        name,
        capabilities: names("capabilities", &agent.capabilities, MAX_CAPABILITIES)?.into(),
        models: names("models", &agent.models, MAX_CAPABILITIES)?.into(),
        max_load: agent.max_load.unwrap_or(1),
        metadata: raw_json("metadata", agent.metadata, MAX_METADATA_BYTES)?,
        session: session(agent.session)?,
        peer: None,
    };
    Ok((agent, place))
}

fn place(agent: &wire::NewAgent) -> Result<Option<Place>, Rejection> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let token_env = given(&agent.token_env);
    match (given(&agent.protocol), given(&agent.url)) {
        (None, None) if token_env.is_some() => Err(Rejection::field("token_env", "needs a url")),
        (None, None) => Ok(None),
        (Some(protocol), _) if protocol != A2A => Err(Rejection::field(
            "protocol",
            "must be a2a; an agent with a worker has none",
        )),
        (Some(_), None) => Err(Rejection::field("url", "is missing: where is the agent?")),
        (None, Some(_)) => Err(Rejection::field("protocol", "is missing: write a2a beside url")),
        (Some(_), Some(url)) => {
            if given(&agent.session).is_some() {
                return Err(Rejection::field(
                    "session",
                    "has no place beside url: no worker speaks for such an agent",
                ));
            }
            Ok(Some(Place {
                url: outward::parse_url("url", &url)?,
                token_env: token_env.map(token_name).transpose()?,
            }))
        }
    }
}

fn token_name(name: String) -> Result<Arc<str>, Rejection> {
    let rest = name.strip_prefix(TOKEN_PREFIX).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if rest.is_empty() || name.len() > 128 || !rest.bytes().all(plain) {
        return Err(Rejection::field(
            "token_env",
            "must be the name of an environment variable of the server, ADJUTANT_PEER_ and then A-Z, 0-9 and _",
        ));
    }
    Ok(name.into())
}

/// A session; an empty one is none.
pub(crate) fn session(session: Option<String>) -> Result<Option<Arc<str>>, Rejection> {
    let Some(session) = session.filter(|session| !session.is_empty()) else {
        return Ok(None);
    };
    chars("session", &session, MAX_SESSION_CHARS)?;
    Ok(Some(session.into()))
}

/// A roll-call of `agent`.
pub(crate) fn sync(agent: AgentId, sync: wire::SyncRequest, caller: &Caller) -> Result<Sync, Rejection> {
    at_most("running", sync.running.len(), MAX_RUNNING)?;
    at_most("done", sync.done.len(), MAX_BATCH)?;
    let running = sync.running.into_iter().enumerate().map(|(index, running)| {
        Ok(Running {
            id: id("id", &running.id).map_err(|no| in_item("running", index, no))?,
            attempt: running.attempt,
        })
    });
    let done = sync.done.into_iter().enumerate().map(|(index, mut done)| {
        // What an agent finished, it finished itself.
        let named = done.agent_id.get_or_insert_with(|| agent.to_string());
        if named.is_empty() {
            agent.as_str().clone_into(named);
        }
        completion::named(done, caller).map_err(|no| in_item("done", index, no))
    });
    Ok(Sync {
        session: session(sync.session)?,
        n: sync.n,
        running: Some(running.collect::<Result<_, _>>()?),
        done: done.collect::<Result<_, _>>()?,
        max: sync.max,
        wait: wait(sync.wait)?,
        agent,
    })
}

/// A heartbeat of `agent`: a roll-call without a list.
pub(crate) fn heartbeat(agent: AgentId, heartbeat: wire::Heartbeat) -> Result<Sync, Rejection> {
    Ok(Sync {
        agent,
        session: session(heartbeat.session)?,
        n: None,
        running: None,
        done: Vec::new(),
        // A heartbeat offers nothing: its caller may not read the answer.
        max: Some(0),
        wait: Span::ZERO,
    })
}

/// How long to wait. A day is more than any server waits, and far from what a span can hold.
fn wait(seconds: Option<f64>) -> Result<Span, Rejection> {
    let seconds = seconds.unwrap_or(0.0);
    if seconds.is_nan() || seconds < 0.0 {
        return Err(Rejection::field("wait", "must not be negative"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded to a day of microseconds")]
    #[expect(clippy::cast_precision_loss, reason = "the constant is exact as f64")]
    let micros = (seconds.min(86_400.0) * MICROS_PER_SECOND as f64) as i64;
    Ok(Span::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::caller::tests::caller;
    use crate::json::object;

    fn agent(text: &str) -> Result<NewAgent, Rejection> {
        object(text.as_bytes())
            .and_then(new_agent)
            .map(|(agent, _)| agent)
    }

    fn roll_call(text: &str) -> Result<Sync, Rejection> {
        object(text.as_bytes()).and_then(|request| sync("a".into(), request, &caller(&["agent:a"])))
    }

    #[test]
    fn an_agent_needs_an_id_and_nothing_else() {
        let plain = agent(r#"{"id": "a"}"#).unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.max_load, plain.session),
            ("a", 1, None)
        );
        let full = agent(
            r#"{"id": "a", "name": "A", "capabilities": ["x", "x"], "models": ["m"], "max_load": 0,
                "metadata": {"k": 1}, "session": "s", "current_load": 9}"#,
        )
        .unwrap();
        assert_eq!(
            (full.name.as_str(), full.max_load, full.capabilities.len()),
            ("A", 0, 1)
        );
        assert_eq!(
            (full.metadata.as_deref(), full.session.as_deref()),
            (Some(r#"{"k": 1}"#), Some("s"))
        );
        for (text, field) in [
            ("{}", "id"),
            (r#"{"id": ""}"#, "id"),
            (r#"{"id": "a b"}"#, "id"),
            (r#"{"id": "a", "max_load": -1}"#, "max_load"),
            (r#"{"id": "a", "capabilities": [""]}"#, "capabilities[0]"),
        ] {
            let refused = agent(text).unwrap_err();
            assert!(refused.message.contains(field), "{text}: {}", refused.message);
        }
    }

    #[test]
    fn waits_are_never_negative() {
        for (text, micros) in [
            (r#"{"running": []}"#, 0),
            (r#"{"running": [], "wait": 0.5}"#, 500_000),
            (r#"{"running": [], "wait": 1e300}"#, 86_400_000_000),
        ] {
            assert_eq!(roll_call(text).unwrap().wait.as_micros(), micros, "{text}");
        }
        for text in [
            r#"{"running": [], "wait": -1}"#,
            r#"{"running": [], "wait": -0.001}"#,
            r#"{"running": [], "wait": "x"}"#,
        ] {
            assert!(
                roll_call(text).unwrap_err().message.starts_with("wait: "),
                "{text}"
            );
        }
        assert!(wait(Some(f64::NAN)).is_err());
    }

    #[test]
    fn a_roll_call_always_has_a_list_and_a_heartbeat_never() {
        assert_eq!(roll_call(r#"{"running": []}"#).unwrap().running, Some(vec![]));
        // What is taken and not listed is lost: a list that was forgotten must not be taken for an empty one.
        for text in ["{}", r#"{"running": null}"#] {
            assert!(roll_call(text).unwrap_err().message.contains("running"), "{text}");
        }
        assert_eq!(
            heartbeat("a".into(), wire::Heartbeat::default()).unwrap().running,
            None
        );
    }

    #[test]
    fn what_is_wrong_in_a_list_is_told_with_its_place() {
        for (text, field) in [
            (
                r#"{"running": [{"id": "t", "attempt": 1}, {"id": "", "attempt": 1}]}"#,
                "running[1].id",
            ),
            (r#"{"running": [{"id": "t"}]}"#, "running[0]"),
            (r#"{"running": [], "done": [{"success": true}]}"#, "done[0].id"),
            (r#"{"running": [], "done": [{"id": "t"}]}"#, "done[0]"),
        ] {
            let refused = roll_call(text).unwrap_err();
            assert!(refused.message.starts_with(field), "{text}: {}", refused.message);
        }
        let done = roll_call(r#"{"running": [], "done": [{"id": "t", "success": true, "attempt": 1}]}"#)
            .unwrap()
            .done;
        assert_eq!(done[0].agent, Some("a".into()));
    }
}
