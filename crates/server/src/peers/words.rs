//! What is said to a peer, and what its words mean here.
//!
//! What peers send is garbage until it is read: every text is cut to what a task may have, every number is bounded.

use std::collections::HashMap;

use ::a2a::{
    Artifact, Message, Part, PartContent, Role, SendMessageConfiguration, SendMessageRequest, TaskState,
};
use adjutant_core::attempt::Tokens;
use adjutant_core::money::Money;
use adjutant_core::task::{MAX_LIST, TaskResult};
use adjutant_wire as wire;
use serde_json::{Value, json};

/// The most bytes of a peer's output that are kept.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// The most bytes of one of its notes, and of an error.
const MAX_NOTE_BYTES: usize = 2_000;
/// The most bytes of the id of one of its tasks.
const MAX_ID_BYTES: usize = 256;
/// More tokens than this are a mistake.
const MAX_TOKENS: u64 = 1 << 50;
/// The most models whose usage is read.
const MAX_MODELS: usize = 32;
/// What the note begins with that keeps the id of a peer's task.
const ID_NOTE: &str = "a2a task ";

/// The request that gives a peer a task. It is asked to say at once that it has it.
pub(super) fn request(task: &wire::Task, attempt: u32) -> SendMessageRequest {
    let mut text = task.title.clone();
    if !task.description.is_empty() && task.description != task.title {
        text = format!("{text}\n\n{}", task.description);
    }
    let mut parts = vec![Part::text(text)];
    let payload = task.payload.as_ref().map(|payload| payload.get());
    parts.extend(
        payload
            .and_then(|payload| serde_json::from_str(payload).ok())
            .map(data),
    );
    let (links, names): (Vec<_>, Vec<_>) = task.files.iter().partition(|file| is_link(file));
    if !names.is_empty() {
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        parts.push(Part::text(format!("Files:\n{}", names.join("\n"))));
    }
    parts.extend(links.into_iter().map(Part::url));
    let mut message = Message::new(Role::User, parts);
    // A peer that sees the same one again has it already.
    message.message_id = format!("{}/{attempt}", task.id);
    message.metadata = Some(HashMap::from([("adjutant".to_owned(), terms(task))]));
    SendMessageRequest {
        message,
        configuration: Some(SendMessageConfiguration {
            accepted_output_modes: None,
            task_push_notification_config: None,
            history_length: Some(0),
            return_immediately: Some(true),
        }),
        metadata: None,
        tenant: None,
    }
}

/// What is asked of whoever does it, for a peer of this kind. Its labels are its own.
fn terms(task: &wire::Task) -> Value {
    let mut terms = json!({"priority": task.priority});
    if let Some(model) = &task.model {
        terms["model"] = json!(model);
    }
    if task.estimated_tokens > 0 {
        terms["estimated_tokens"] = json!(task.estimated_tokens);
    }
    terms
}

fn data(value: Value) -> Part {
    Part {
        content: PartContent::Data(value),
        filename: None,
        media_type: Some("application/json".to_owned()),
        metadata: None,
    }
}

fn is_link(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The note that keeps the id of the peer's task, so that the attempt outlives this server.
pub(super) fn id_note(id: &str) -> String {
    format!("{ID_NOTE}{id}")
}

/// The id of the peer's task that an attempt follows, if it got so far. It is noted before anything that the peer says.
pub(super) fn noted_id(task: &wire::Task, agent: &str) -> Option<String> {
    let since = task.claimed_at?;
    task.notes.iter().find_map(|note| {
        let id = note.text.strip_prefix(ID_NOTE)?;
        (note.author == agent && note.at >= since && is_id(id)).then(|| id.to_owned())
    })
}

/// Whether this can be the id of a task: it becomes a segment of a path.
pub(super) fn is_id(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.len() <= MAX_ID_BYTES
        && text.chars().all(|c| c.is_ascii_graphic())
}

/// How a task stands with a peer.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Standing {
    /// It goes on.
    Going,
    /// It is over.
    Over(TaskResult),
    /// It waits for something that nobody here can give.
    Stuck(String),
}

/// What a peer says of a task.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Word {
    /// How it stands.
    pub(super) standing: Standing,
    /// What the peer remarks.
    pub(super) note: Option<String>,
    /// How far it is, 0–100.
    pub(super) progress: Option<u8>,
    /// What it has used so far, by model.
    pub(super) usage: Vec<Usage>,
}

/// What a peer says it has used for a task.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Usage {
    /// Tokens.
    pub(super) tokens: Tokens,
    /// Their cost.
    pub(super) cost: Option<Money>,
    /// Whose tokens.
    pub(super) model: Option<String>,
}

/// What a task of the peer says.
pub(super) fn word(task: &::a2a::Task) -> Word {
    let said = task
        .status
        .message
        .as_ref()
        .map(|message| text_of(&message.parts));
    let said = said.filter(|said| !said.trim().is_empty());
    let note = said.as_deref().map(|said| cut(said, MAX_NOTE_BYTES));
    let remark = note.clone().filter(|note| !note.starts_with(ID_NOTE));
    let metadata = task.metadata.as_ref();
    let why = |otherwise: &str| note.clone().unwrap_or_else(|| otherwise.to_owned());
    let standing = match task.status.state {
        TaskState::Unspecified | TaskState::Submitted | TaskState::Working => Standing::Going,
        TaskState::Completed => Standing::Over(success(
            task.artifacts.as_deref().unwrap_or_default(),
            said.clone(),
        )),
        TaskState::Failed => Standing::Over(failure(why("the peer says that it failed"))),
        TaskState::Canceled => Standing::Over(failure(why("the peer cancelled it"))),
        TaskState::Rejected => Standing::Over(failure(format!(
            "the peer rejected it: {}",
            why("it does not say why")
        ))),
        TaskState::InputRequired => Standing::Stuck(format!(
            "the peer asks for input, and nobody is there to answer: {}",
            why("")
        )),
        TaskState::AuthRequired => Standing::Stuck(format!(
            "the peer asks for authorisation, which it has to have before: {}",
            why("")
        )),
    };
    Word {
        standing,
        note: remark,
        progress: metadata
            .and_then(|all| all.get("adjutant")?.get("progress")?.as_u64())
            .map(|progress| u8::try_from(progress.min(100)).unwrap_or(100)),
        usage: metadata.map(usage).unwrap_or_default(),
    }
}

/// What a peer that answers at once says: a message is the whole result.
pub(super) fn of_message(message: &Message) -> Word {
    Word {
        standing: Standing::Over(success(&[], Some(text_of(&message.parts)))),
        note: None,
        progress: None,
        usage: message.metadata.as_ref().map(usage).unwrap_or_default(),
    }
}

/// An attempt that failed for this reason.
pub(super) fn failure(why: impl Into<String>) -> TaskResult {
    TaskResult {
        success: false,
        error_message: cut(&why.into(), MAX_NOTE_BYTES),
        ..TaskResult::default()
    }
}

/// What came out. The text of all artifacts is the output; without one, what the peer said at last.
fn success(made: &[Artifact], said: Option<String>) -> TaskResult {
    let texts: Vec<String> = made.iter().map(|artifact| text_of(&artifact.parts)).collect();
    let output = texts.iter().filter(|text| !text.is_empty()).map(String::as_str);
    let mut output = output.collect::<Vec<_>>().join("\n\n");
    if output.is_empty() {
        output = said.unwrap_or_default();
    }
    let parts = made.iter().flat_map(|artifact| &artifact.parts);
    TaskResult {
        success: true,
        output: cut(&output, MAX_OUTPUT_BYTES),
        artifacts: parts.filter_map(link_of).take(MAX_LIST).collect(),
        error_message: String::new(),
    }
}

/// The text of parts: texts as they are, data as JSON.
fn text_of(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match &part.content {
        PartContent::Text(text) => Some(text.clone()),
        PartContent::Data(value) => Some(value.to_string()),
        PartContent::Url(_) | PartContent::Raw(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n\n")
}

/// Where something is that came out; of a file that was sent along only its name is kept.
fn link_of(part: &Part) -> Option<String> {
    let link = match &part.content {
        PartContent::Url(url) => url.clone(),
        PartContent::Raw(bytes) => {
            let name = part.filename.as_deref().unwrap_or("a file");
            format!("{name} ({} bytes, not kept)", bytes.len())
        }
        PartContent::Text(_) | PartContent::Data(_) => return None,
    };
    Some(cut(&link, MAX_NOTE_BYTES).replace(['\n', '\r'], " "))
}

/// Reads usage out of metadata: as another server of this kind tells it, or under the names of model providers.
fn usage(metadata: &HashMap<String, Value>) -> Vec<Usage> {
    let told = match metadata.get("adjutant") {
        Some(own) => own.get("usage"),
        None => metadata.get("usage"),
    };
    let Some(told) = told else {
        return Vec::new();
    };
    let models = told.get("models").and_then(Value::as_array);
    match models.filter(|models| !models.is_empty()) {
        Some(models) => models.iter().take(MAX_MODELS).filter_map(usage_of).collect(),
        None => usage_of(told).into_iter().collect(),
    }
}

fn usage_of(told: &Value) -> Option<Usage> {
    let count = |names: &[&str]| {
        let found = names.iter().find_map(|name| told.get(*name)?.as_u64());
        found.unwrap_or(0).min(MAX_TOKENS)
    };
    let cost = told.get("cost").and_then(Value::as_f64);
    let usage = Usage {
        tokens: Tokens {
            tokens_in: count(&["tokens_in", "input_tokens", "prompt_tokens"]),
            tokens_out: count(&["tokens_out", "output_tokens", "completion_tokens"]),
            tokens_cached: count(&["tokens_cached", "cached_tokens", "cache_read_input_tokens"]),
        },
        cost: cost
            .filter(|cents| *cents > 0.0)
            .and_then(|cents| Money::from_cents(cents).ok()),
        model: told.get("model").and_then(Value::as_str).map(str::to_owned),
    };
    (!usage.tokens.is_zero() || usage.cost.is_some()).then_some(usage)
}

/// The beginning of a text, without what a terminal would obey.
fn cut(text: &str, most: usize) -> String {
    let plain = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let mut text: String = text.chars().filter(plain).collect();
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str("\n… (the rest was not kept)");
    }
    text
}
