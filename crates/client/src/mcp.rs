//! Messages of the Model Context Protocol, passed to the server's `/mcp` as they are.
//!
//! # Not here
//! What they mean: whoever sends them. What tools there are: the server.

use std::ops::Deref;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use crate::request::{error_body, header, refusal};
use crate::sse::Parser;
use crate::{Client, Error, MAX_ANSWER_BYTES};

/// The longest that an answer is waited for, or its next piece: a tool that waits for work does so for four minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// Header of the revision that a message is of.
const PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Header of what is asked, for those who look at heads only.
const METHOD: &str = "mcp-method";
/// Header of whom it is asked about.
const NAME: &str = "mcp-name";
/// Header of a session, where a server has such.
const SESSION: &str = "mcp-session-id";

/// A message, and what its head says of it.
#[derive(Clone, Debug, Default)]
pub struct McpMessage {
    /// The message: one JSON text.
    pub text: String,
    /// The revision that it is of.
    pub protocol_version: Option<String>,
    /// What it asks, where its revision wants that in the head.
    pub method: Option<String>,
    /// The tool or the task that it is about, likewise.
    pub name: Option<String>,
    /// The session that it belongs to.
    pub session: Option<String>,
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct McpAnswer {
    /// Messages of the server, one JSON text each.
    pub messages: Vec<String>,
    /// The session that began.
    pub session: Option<String>,
}

impl Client {
    /// Sends a message, once, and gives what the server has to say to it. Messages that come before the last one are
    /// given to `tell` as they come.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses in another language than that of the protocol.
    pub async fn mcp(&self, message: McpMessage, mut tell: impl FnMut(String)) -> Result<McpAnswer, Error> {
        let mut url = self.inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("mcp");
        }
        let headers = head(&message);
        let sending = self
            .inner
            .http
            .request(Method::POST, url.clone())
            .headers(headers)
            .body(message.text)
            .send();
        let response = tokio::time::timeout(PATIENCE, sending)
            .await
            .map_err(|_| silent(&url))?
            .map_err(|error| Error::transport(&url, error))?;
        let kind = header(response.headers(), CONTENT_TYPE.as_str())
            .unwrap_or_default()
            .to_owned();
        let session = header(response.headers(), SESSION).map(str::to_owned);
        let mut answer = McpAnswer {
            messages: Vec::new(),
            session,
        };
        if response.status() == StatusCode::ACCEPTED {
            return Ok(answer);
        }
        let succeeded = response.status().is_success();
        if succeeded && kind.starts_with("text/event-stream") {
            let last = events(response, &url, &mut tell).await?;
            answer.messages.extend(last);
            return Ok(answer);
        }
        if !kind.starts_with("application/json") {
            return Err(if succeeded {
                Error::unexpected(&url, format!("`{kind}` is not what this protocol answers with"))
            } else {
                refusal(response, &url).await
            });
        }
        let status = response.status();
        let text = whole(response, &url).await?;
        if !succeeded && !is_message(&text) {
            return Err(Error::Refused {
                body: error_body(status, text.as_bytes()),
                retry_after: None,
            });
        }
        answer.messages.push(text);
        Ok(answer)
    }
}

fn head(message: &McpMessage) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    for (name, value) in [
        (PROTOCOL_VERSION, message.protocol_version.clone()),
        (METHOD, message.method.clone()),
        (NAME, message.name.as_deref().map(plain)),
        (SESSION, message.session.clone()),
    ] {
        // What cannot stand in a head is left out: the server says what is missing.
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// A text as the protocol puts it into a head: as it is, unless that would not survive.
fn plain(text: &str) -> String {
    let survives = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && text.trim() == text
        && !text.starts_with("=?base64?");
    if survives {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(text))
    }
}

/// Whether a text is a message of the protocol, and not an error of the API.
fn is_message(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.get("jsonrpc").is_some())
}

/// Tells what comes, and gives the last of it, if there is any.
async fn events(
    mut response: Response,
    url: &Url,
    tell: &mut impl FnMut(String),
) -> Result<Option<String>, Error> {
    let mut parser = Parser::default();
    let mut last = None;
    while let Some(chunk) = chunk(&mut response, url).await? {
        let events = parser
            .push(&chunk)
            .map_err(|_| Error::unexpected(url, "an event of its stream is too long".to_owned()))?;
        for event in events {
            if let Some(before) = last.replace(event) {
                tell(before);
            }
        }
    }
    Ok(last)
}

async fn whole(mut response: Response, url: &Url) -> Result<String, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = chunk(&mut response, url).await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Error::unexpected(
                url,
                format!("it is longer than {MAX_ANSWER_BYTES} bytes"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| Error::unexpected(url, "it is not UTF-8 text".to_owned()))
}

async fn chunk(
    response: &mut Response,
    url: &Url,
) -> Result<Option<impl Deref<Target = [u8]> + use<>>, Error> {
    tokio::time::timeout(PATIENCE, response.chunk())
        .await
        .map_err(|_| silent(url))?
        .map_err(|error| Error::transport(url, error))
}

fn silent(url: &Url) -> Error {
    Error::Transport {
        what: format!("{} does not answer", url.origin().ascii_serialization()),
        unreachable: false,
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stub::{Exchange, Stub};

    /// Sends a message, lets the server do what it does, and gives what was told before the answer, and the answer.
    async fn ask(
        message: McpMessage,
        server: impl FnOnce(Exchange),
    ) -> (Vec<String>, Result<McpAnswer, Error>) {
        let mut stub = Stub::start().await;
        let client = Client::new(&stub.url, Some("secret".into())).unwrap();
        let call = tokio::spawn(async move {
            let mut told = Vec::new();
            let answer = client.mcp(message, |text| told.push(text)).await;
            (told, answer)
        });
        server(stub.next().await);
        call.await.unwrap()
    }

    fn message() -> McpMessage {
        McpMessage {
            text: json!({"jsonrpc": "2.0", "id": 1, "method": "x"}).to_string(),
            ..McpMessage::default()
        }
    }

    #[tokio::test]
    async fn a_message_goes_as_it_is_and_its_head_says_what_it_is_told_to() {
        let full = McpMessage {
            protocol_version: Some("2026-07-28".into()),
            method: Some("tools/call".into()),
            name: Some("ü".into()),
            session: Some("s".into()),
            ..message()
        };
        let (told, answer) = ask(full, |request| {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/mcp"));
            for line in [
                "authorization: bearer secret",
                "accept: application/json, text/event-stream",
                "content-type: application/json",
                "mcp-protocol-version: 2026-07-28",
                "mcp-method: tools/call",
                "mcp-name: =?base64?w7w=?=",
                "mcp-session-id: s",
            ] {
                assert!(
                    request.headers.contains(&line.to_lowercase()),
                    "{line}: {}",
                    request.headers
                );
            }
            assert_eq!(request.body["id"], 1);
            request.with_headers(
                200,
                "mcp-session-id: new\r\n",
                &json!({"jsonrpc": "2.0", "id": 1}),
            );
        })
        .await;
        let answer = answer.unwrap();
        assert_eq!(answer.messages, [r#"{"id":1,"jsonrpc":"2.0"}"#]);
        assert_eq!((answer.session.as_deref(), told.len()), (Some("new"), 0));
    }

    #[tokio::test]
    async fn a_stream_is_told_as_it_comes_and_ends_with_the_answer() {
        let (told, answer) = ask(message(), |request| {
            request.raw(
                "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: hello\n\n\
                 data: {\"method\":\"a\"}\n\nevent: message\ndata: {\"id\":1}\n\n",
            );
        })
        .await;
        assert_eq!(told, [r#"{"method":"a"}"#]);
        assert_eq!(answer.unwrap().messages, [r#"{"id":1}"#]);
    }

    #[tokio::test]
    async fn errors_of_the_protocol_are_answers_and_others_are_errors() {
        let failure = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "no"}});
        let (_, answer) = ask(message(), |request| request.json(400, &failure)).await;
        assert_eq!(answer.unwrap().messages, [failure.to_string()]);
        let (_, refused) = ask(message(), |request| request.refuse(401, "unauthorized")).await;
        assert_eq!(refused.unwrap_err().slug(), Some("unauthorized"));
        let (_, noted) = ask(message(), |request| {
            request.raw("HTTP/1.1 202 x\r\ncontent-length: 0\r\n\r\n");
        })
        .await;
        assert_eq!(noted.unwrap(), McpAnswer::default());
        let (_, odd) = ask(message(), |request| {
            request.raw("HTTP/1.1 200 x\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\nx");
        })
        .await;
        assert!(matches!(odd, Err(Error::Unexpected { .. })));
        let (_, proxy) = ask(message(), |request| {
            request.raw("HTTP/1.1 502 x\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\nx");
        })
        .await;
        assert_eq!(proxy.unwrap_err().code(), Some(502));
        let (_, gone) = ask(message(), Exchange::hang_up).await;
        assert!(matches!(gone, Err(Error::Transport { .. })));
    }

    #[test]
    fn a_name_survives_its_way_through_a_head() {
        for (name, sent) in [
            ("next_task", "next_task"),
            ("a b", "a b"),
            ("ü", "=?base64?w7w=?="),
            (" a", "=?base64?IGE=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ] {
            assert_eq!(plain(name), sent, "{name}");
        }
    }

    #[test]
    fn an_error_of_the_api_is_no_message() {
        assert!(is_message(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#));
        assert!(!is_message(
            r#"{"code":401,"message":"a token is needed","error":"unauthorized"}"#
        ));
        assert!(!is_message("<html>"));
    }
}
