//! Messages that come in, and the tasks that they become.
//!
//! The request is read into types of this file and not into those of the protocol's crate: what is wrong is then refused
//! by the name of its field, and JSON for agents is handed on as it was written.

use std::fmt;

use ::a2a::error_code;
use adjutant_core::command::{IdempotencyKey, NewTask};
use adjutant_core::rejection::Rejection;
use adjutant_wire as wire;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::error::Refused;
use crate::access::caller::Caller;
use crate::extract::FromBody;
use crate::token::hex;
use crate::{json, parse};

/// What the ids of tasks that came as messages begin with.
const ID_PREFIX: &str = "a2a:";
/// The most characters of a context: with all else it fits into an id.
const MAX_CONTEXT_CHARS: usize = 80;
/// The most characters of a message's id.
const MAX_MESSAGE_ID_CHARS: usize = 1_000;
/// The most characters of a title that is made of a message.
const MAX_TITLE_CHARS: usize = 500;
/// The most parts of a message.
const MAX_PARTS: usize = 1_000;
/// The most bytes of the fields of a task in the metadata: what they become in memory is many times as large.
const MAX_FIELDS_BYTES: usize = 256 << 10;
/// Where the fields of a task are in the metadata.
const FIELDS: &str = "metadata.adjutant";
/// Fields of a task that follow from the message, and cannot be said beside it.
const FROM_MESSAGE: [&str; 3] = ["id", "description", "payload"];

/// A request to send a message, and the digest by which a repeat is recognised.
pub(crate) struct Incoming {
    request: Request,
    digest: [u8; 32],
}

impl FromBody for Incoming {
    fn from_body(text: &[u8], _: usize) -> Result<Self, Rejection> {
        Ok(Self {
            request: json::object(text)?,
            digest: Sha256::digest(text).into(),
        })
    }
}

#[derive(Deserialize)]
struct Request {
    message: Message,
    configuration: Option<Configuration>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(rename = "messageId")]
    id: String,
    context_id: Option<String>,
    task_id: Option<String>,
    role: Option<::a2a::Role>,
    #[serde(deserialize_with = "few_parts")]
    parts: Vec<Part>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    raw: Option<IgnoredAny>,
    url: Option<String>,
    data: Option<Box<RawValue>>,
    filename: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    return_immediately: Option<bool>,
    history_length: Option<i32>,
    #[serde(alias = "pushNotificationConfig")]
    task_push_notification_config: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Metadata {
    adjutant: Option<Box<RawValue>>,
}

/// Reads parts, and counts them while they are read: a list of a million small ones must not become many times its size
/// in memory.
fn few_parts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Part>, D::Error> {
    struct Parts;

    impl<'de> Visitor<'de> for Parts {
        type Value = Vec<Part>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = items.next_element()? {
                if parts.len() == MAX_PARTS {
                    return Err(A::Error::custom(format_args!(
                        "must have at most {MAX_PARTS} items"
                    )));
                }
                parts.push(part);
            }
            Ok(parts)
        }
    }

    deserializer.deserialize_seq(Parts)
}

impl Metadata {
    /// The fields of a task that it carries.
    fn fields(self) -> Result<Map<String, Value>, Rejection> {
        let Some(fields) = self.adjutant else {
            return Ok(Map::new());
        };
        parse::bytes(FIELDS, fields.get(), MAX_FIELDS_BYTES)?;
        serde_json::from_str(fields.get()).map_err(|_| Rejection::field(FIELDS, "must be an object"))
    }
}

impl Incoming {
    /// The task that the message is about, if it names one.
    pub(crate) fn task_id(&self) -> Option<&str> {
        self.request
            .message
            .task_id
            .as_deref()
            .filter(|id| !id.is_empty())
    }

    /// Whether the sender does not wait for the end of the task.
    pub(crate) fn returns_immediately(&self) -> bool {
        let configuration = self.request.configuration.as_ref();
        configuration.and_then(|configuration| configuration.return_immediately) == Some(true)
    }

    /// How many messages of its history the sender wants to see; none is all.
    pub(crate) fn history_length(&self) -> Result<Option<usize>, Rejection> {
        let configuration = self.request.configuration.as_ref();
        configuration
            .and_then(|configuration| configuration.history_length)
            .map(|length| {
                usize::try_from(length)
                    .map_err(|_| Rejection::field("configuration.historyLength", "must not be negative"))
            })
            .transpose()
    }

    /// The key by which the same message, sent again with the same token, is recognised.
    pub(crate) fn idempotency(&self, caller: &Caller) -> IdempotencyKey {
        let id = Sha256::digest(self.request.message.id.as_bytes());
        IdempotencyKey {
            token: caller.key_space(),
            key: format!("{ID_PREFIX}{}", hex(&id)).into(),
            digest: self.digest,
        }
    }

    /// The task that the message becomes.
    pub(crate) fn into_task(self) -> Result<NewTask, Refused> {
        let Request {
            message,
            configuration,
            metadata,
        } = self.request;
        if configuration.is_some_and(|it| it.task_push_notification_config.is_some()) {
            return Err(push_not_supported());
        }
        check_message(&message)?;
        let context = match message.context_id.filter(|context| !context.is_empty()) {
            Some(context) => {
                check_context(&context)?;
                context
            }
            None => Uuid::now_v7().simple().to_string(),
        };
        let said = Said::of(message.parts)?;
        let mut fields = Map::new();
        for metadata in [message.metadata, metadata].into_iter().flatten() {
            fields.extend(metadata.fields()?);
        }
        let mut task = task_fields(fields, || said.title(&message.id))?;
        task.id = Some(format!("{ID_PREFIX}{context}:{}", Uuid::now_v7().simple()));
        task.description = said.description;
        task.payload = said.payload;
        let mut files = said.files;
        files.append(&mut task.files);
        task.files = files;
        let task = parse::task::new_task(task).map_err(in_fields)?;
        Ok(NewTask {
            fresh_id: true,
            ..task
        })
    }
}

/// What is said to who wants to be called back.
pub(crate) fn push_not_supported() -> Refused {
    Refused::new(
        error_code::PUSH_NOTIFICATION_NOT_SUPPORTED,
        "this server calls nobody back: use message:stream or tasks/ID:subscribe, or ask for the task",
    )
}

/// The context of a task. It is a part of the id of those that came as messages; any other is alone in its own.
pub(crate) fn context_of(id: &str) -> &str {
    id.strip_prefix(ID_PREFIX)
        .and_then(|rest| rest.rsplit_once(':'))
        .filter(|(context, own)| !context.is_empty() && Uuid::try_parse(own).is_ok())
        .map_or(id, |(context, _)| context)
}

fn check_message(message: &Message) -> Result<(), Rejection> {
    let length = message.id.chars().count();
    if length == 0 || length > MAX_MESSAGE_ID_CHARS {
        return Err(Rejection::field(
            "message.messageId",
            format_args!("must have 1 to {MAX_MESSAGE_ID_CHARS} characters"),
        ));
    }
    if message.role == Some(::a2a::Role::Agent) {
        return Err(Rejection::field("message.role", "must be ROLE_USER"));
    }
    Ok(())
}

fn check_context(context: &str) -> Result<(), Rejection> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if context.len() <= MAX_CONTEXT_CHARS && context.bytes().all(fits) {
        return Ok(());
    }
    Err(Rejection::field(
        "message.contextId",
        format_args!("must have 1 to {MAX_CONTEXT_CHARS} characters of [A-Za-z0-9._-]"),
    ))
}

/// What the parts of a message say.
#[derive(Debug)]
struct Said {
    first_line: Option<String>,
    description: String,
    files: Vec<String>,
    payload: Option<Box<RawValue>>,
}

impl Said {
    fn of(parts: Vec<Part>) -> Result<Self, Refused> {
        let (mut texts, mut links) = (Vec::new(), Vec::new());
        let (mut files, mut data) = (Vec::new(), Vec::new());
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part { raw: Some(_), .. } => {
                    return Err(Refused::new(
                        error_code::CONTENT_TYPE_NOT_SUPPORTED,
                        format!(
                            "message.parts[{index}].raw: bytes are not taken; put them where agents can fetch them, and \
                             send a part with their url"
                        ),
                    ));
                }
                Part { text: Some(text), .. } => texts.push(text),
                Part {
                    url: Some(url),
                    filename,
                    ..
                } => {
                    links.push(match filename.filter(|name| !name.is_empty()) {
                        Some(name) => format!("{name}: {url}"),
                        None => url.clone(),
                    });
                    files.push(url);
                }
                Part {
                    data: Some(value), ..
                } => data.push(value),
                _ => {
                    return Err(Rejection::field(
                        &format!("message.parts[{index}]"),
                        "must have one of text, url and data",
                    )
                    .into());
                }
            }
        }
        let first_line = texts
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .find(|line| !line.is_empty())
            .map(|line| line.chars().take(MAX_TITLE_CHARS).collect());
        if first_line.is_none() && files.is_empty() && data.is_empty() {
            return Err(Rejection::field("message.parts", "must say something").into());
        }
        if !links.is_empty() {
            texts.push(links.join("\n"));
        }
        Ok(Self {
            first_line,
            description: texts.join("\n\n"),
            files,
            payload: payload(data)?,
        })
    }

    fn title(&self, message_id: &str) -> String {
        let title = self.first_line.clone();
        title.unwrap_or_else(|| {
            format!("A2A message {message_id}")
                .chars()
                .take(MAX_TITLE_CHARS)
                .collect()
        })
    }
}

/// The data parts: one as it is, several as a list.
fn payload(mut data: Vec<Box<RawValue>>) -> Result<Option<Box<RawValue>>, Rejection> {
    if data.len() < 2 {
        return Ok(data.pop());
    }
    let texts: Vec<_> = data.iter().map(|value| value.get()).collect();
    RawValue::from_string(format!("[{}]", texts.join(",")))
        .map(Some)
        .map_err(|error| Rejection::field("message.parts", error))
}

/// A task with the fields that the metadata names, and this title unless they name one.
fn task_fields(
    mut fields: Map<String, Value>,
    title: impl FnOnce() -> String,
) -> Result<wire::NewTask, Rejection> {
    if let Some(field) = FROM_MESSAGE.iter().find(|field| fields.contains_key(**field)) {
        return Err(Rejection::field(
            &format!("{FIELDS}.{field}"),
            "follows from the message, and cannot be given",
        ));
    }
    fields.entry("title").or_insert_with(|| title().into());
    let mut fields = Value::Object(fields);
    whole_numbers(&mut fields);
    json::object(fields.to_string().as_bytes()).map_err(in_fields)
}

/// Says where in the request a field of the task is. What is said of texts and data is about the message.
fn in_fields(rejection: Rejection) -> Rejection {
    let message = &rejection.message;
    let message = match message.split(':').next() {
        Some("description") => format!("message.parts: as a {message}"),
        Some("payload") => format!("message.parts: as the {message}"),
        _ => format!("{FIELDS}.{message}"),
    };
    Rejection { message, ..rejection }
}

/// Metadata is a structure of protobuf, whose numbers all have a fraction: some clients write 3 as `3.0`.
fn whole_numbers(value: &mut Value) {
    /// Up to here every whole number is exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number
                .as_f64()
                .filter(|it| it.fract() == 0.0 && it.abs() <= EXACT);
            if let Some(whole) = whole.and_then(|whole| format!("{whole:.0}").parse::<i64>().ok()) {
                *number = Number::from(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}
