//! Asking a peer: the three requests of A2A that are needed, over either of its JSON bindings.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::a2a::{
    AgentCard, JsonRpcId, JsonRpcRequest, JsonRpcResponse, SVC_PARAM_VERSION, SendMessageRequest,
    SendMessageResponse, TRANSPORT_PROTOCOL_HTTP_JSON, TRANSPORT_PROTOCOL_JSONRPC, Task, VERSION, error_code,
    methods,
};
use adjutant_core::agent::Peer;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::Config;
use crate::outward::{Client, Told};

/// The most characters of what a peer says of an error.
const MAX_SAID_CHARS: usize = 300;
/// The most bytes of an error that are looked into.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// A peer that wants to be left alone for longer is asked again after this.
const MAX_PAUSE: Duration = Duration::from_hours(1);
/// A peer that is busy and does not say for how long.
const USUAL_PAUSE: Duration = Duration::from_mins(1);

/// Why a peer did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// It cannot be reached, or answers with something that cannot be read: it may do better later.
    Away(String),
    /// It has too much to do, for so long.
    Busy(String, Duration),
    /// It says no.
    Refused(String),
}

impl Trouble {
    /// In words.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Away(text) | Self::Busy(text, _) | Self::Refused(text) => text,
        }
    }
}

/// How a peer is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Binding {
    /// Paths and methods of HTTP.
    Rest,
    /// Everything is posted to one address.
    JsonRpc,
}

/// A peer that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    client: Client,
    binding: Binding,
    base: Url,
    token: Option<String>,
}

/// How a peer is spoken to, once that is known: all its attempts share it.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Option<(Arc<Peer>, Asking)>>);

impl Line {
    /// Finds out how the peer is spoken to, unless that is known.
    pub(super) async fn open(&self, peer: &Arc<Peer>, config: &Config) -> Result<Asking, Trouble> {
        let known = self.known().clone();
        if let Some((_, asking)) = known.filter(|(place, _)| place == peer) {
            return Ok(asking);
        }
        let asking = Asking::open(peer, config).await?;
        *self.known() = Some((Arc::clone(peer), asking.clone()));
        Ok(asking)
    }

    /// Forgets what is known.
    pub(super) fn hang_up(&self) {
        *self.known() = None;
    }

    fn known(&self) -> MutexGuard<'_, Option<(Arc<Peer>, Asking)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asking {
    /// Learns from its card how a peer wants to be spoken to. One without a card is spoken to by HTTP+JSON.
    async fn open(peer: &Peer, config: &Config) -> Result<Self, Trouble> {
        let away = |why: String| Trouble::Away(format!("the peer at {}: {why}", peer.url));
        let base = Url::parse(&peer.url).map_err(|error| away(error.to_string()))?;
        let token = match peer.token_env.as_deref() {
            None => None,
            Some(name) => match std::env::var(name).unwrap_or_default().trim() {
                "" => {
                    return Err(away(format!(
                        "token_env: this server has no environment variable {name}"
                    )));
                }
                token => Some(token.to_owned()),
            },
        };
        let mut asking = Self {
            client: Client::new(
                &base,
                &peer.addresses,
                config.allow_private_peers,
                config.peer_patience,
            )
            .map_err(away)?,
            binding: Binding::Rest,
            base,
            token,
        };
        let card = asking.url(&[".well-known", "agent-card.json"]);
        let told = asking.send(Method::GET, card, None::<&()>).await?;
        if told.status == StatusCode::NOT_FOUND {
            return Ok(asking);
        }
        let card: AgentCard = asking.read(told, "its agent card")?;
        let (binding, url) = asking.choose(&card)?;
        asking.binding = binding;
        asking.base = url;
        Ok(asking)
    }

    /// The interface of a card that is spoken here, at the place that was looked up. A card cannot send anyone elsewhere.
    fn choose(&self, card: &AgentCard) -> Result<(Binding, Url), Trouble> {
        let own = card.supported_interfaces.iter().filter_map(|interface| {
            let binding = match interface.protocol_binding.as_str() {
                TRANSPORT_PROTOCOL_HTTP_JSON => Binding::Rest,
                TRANSPORT_PROTOCOL_JSONRPC => Binding::JsonRpc,
                _ => return None,
            };
            let newest = interface.protocol_version.split('.').next() == Some("1");
            let url = Url::parse(&interface.url).ok().filter(|_| newest)?;
            Some((binding, url))
        });
        let mut elsewhere = None;
        for (binding, url) in own {
            if url.origin() == self.base.origin() {
                return Ok((binding, url));
            }
            elsewhere = Some(url);
        }
        Err(self.away(&match elsewhere {
            Some(url) => format!(
                "its agent card sends to {}, which is not where it was registered: register it there",
                url.origin().ascii_serialization()
            ),
            None => "its agent card has no interface of A2A 1.x by HTTP+JSON or JSON-RPC".to_owned(),
        }))
    }

    /// Gives it a message.
    pub(super) async fn message(&self, message: &SendMessageRequest) -> Result<SendMessageResponse, Trouble> {
        match self.binding {
            Binding::Rest => {
                let told = self
                    .send(Method::POST, self.url(&["message:send"]), Some(message))
                    .await?;
                self.read(told, "its answer")
            }
            Binding::JsonRpc => self.call(methods::SEND_MESSAGE, message).await,
        }
    }

    /// Asks how a task stands.
    pub(super) async fn task(&self, id: &str) -> Result<Task, Trouble> {
        match self.binding {
            Binding::Rest => {
                let mut url = self.url(&["tasks", id]);
                url.set_query(Some("historyLength=0"));
                let told = self.send(Method::GET, url, None::<&()>).await?;
                self.read(told, "its answer")
            }
            Binding::JsonRpc => {
                self.call(methods::GET_TASK, &json!({"id": id, "historyLength": 0}))
                    .await
            }
        }
    }

    /// Asks it to stop, and gives what it says of the task then.
    pub(super) async fn cancel(&self, id: &str) -> Result<Task, Trouble> {
        match self.binding {
            Binding::Rest => {
                let url = self.url(&["tasks", &format!("{id}:cancel")]);
                let told = self.send(Method::POST, url, Some(&json!({}))).await?;
                self.read(told, "its answer")
            }
            Binding::JsonRpc => self.call(methods::CANCEL_TASK, &json!({"id": id})).await,
        }
    }

    /// A URL under the base. Each segment is written so that it stays one.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn call<P: Serialize, T: DeserializeOwned>(&self, method: &str, params: &P) -> Result<T, Trouble> {
        let params = serde_json::to_value(params).map_err(|error| self.away(&error.to_string()))?;
        let request = JsonRpcRequest::new(JsonRpcId::Number(1), method, Some(params));
        let told = self.send(Method::POST, self.base.clone(), Some(&request)).await?;
        let answer: JsonRpcResponse = self.read(told, "its answer")?;
        if let Some(error) = answer.error {
            let text = self.named(&format!("it refused: {}", said(&error.message)));
            // What is the same as a 500 by the other binding.
            return Err(if error.code == error_code::INTERNAL_ERROR {
                Trouble::Away(text)
            } else {
                Trouble::Refused(text)
            });
        }
        let result = answer.result.unwrap_or_default();
        serde_json::from_value(result)
            .map_err(|error| self.away(&format!("its answer cannot be read: {error}")))
    }

    async fn send<B: Serialize>(&self, method: Method, url: Url, body: Option<&B>) -> Result<Told, Trouble> {
        let mut request = self
            .client
            .request(method, url)
            .header(SVC_PARAM_VERSION, VERSION)
            .header(ACCEPT, "application/json, application/a2a+json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            let text = serde_json::to_vec(body).map_err(|error| self.away(&error.to_string()))?;
            request = request.header(CONTENT_TYPE, "application/json").body(text);
        }
        self.client.send(request).await.map_err(|why| self.away(&why))
    }

    /// Reads what came back.
    fn read<T: DeserializeOwned>(&self, told: Told, what: &str) -> Result<T, Trouble> {
        let Told {
            status,
            headers,
            body,
        } = told;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| self.away(&format!("{what} cannot be read: {error}")));
        }
        let text = self.named(&format!("it answered {status}{}", error_of(&body)));
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            let pause = headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let pause = pause
                .map_or(USUAL_PAUSE, Duration::from_secs)
                .clamp(Duration::from_secs(1), MAX_PAUSE);
            return Err(Trouble::Busy(text, pause));
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Err(Trouble::Away(text));
        }
        Err(Trouble::Refused(text))
    }

    fn away(&self, why: &str) -> Trouble {
        Trouble::Away(self.named(why))
    }

    fn named(&self, why: &str) -> String {
        format!("the peer at {}: {why}", self.base)
    }
}

/// What an error's body says, as far as it says anything.
fn error_of(body: &[u8]) -> String {
    let short = Some(body).filter(|body| body.len() <= MAX_ERROR_BYTES);
    let Some(body) = short.and_then(|body| serde_json::from_slice::<Value>(body).ok()) else {
        return String::new();
    };
    let error = body.get("error").unwrap_or(&body);
    let text = error
        .get("message")
        .or_else(|| error.get("detail"))
        .or_else(|| error.get("title"));
    text.and_then(Value::as_str)
        .map(|text| format!(": {}", said(text)))
        .unwrap_or_default()
}

fn said(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_SAID_CHARS)
        .collect()
}
