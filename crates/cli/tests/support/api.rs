//! The API as a plain client speaks it: one connection for each request, an answer or none.
//!
//! A client that tries again by itself would hide what this is about, so it is not used for that.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Server, TOKEN};

/// A server that does not answer for longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer that came whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Asserts success and gives the body.
    #[track_caller]
    pub fn good(self) -> Value {
        assert!(self.is_good(), "{self:?}");
        self.body
    }
}

/// Where a server listens, and who asks.
#[derive(Clone, Debug)]
pub struct Api {
    pub address: String,
    pub token: String,
}

impl Api {
    pub fn of(server: &Server) -> Self {
        Self {
            address: server.url.trim_start_matches("http://").to_owned(),
            token: TOKEN.to_owned(),
        }
    }

    /// Asks. An error means that nobody knows whether it was done.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        self.ask_with(method, path, body, "")
    }

    /// Asks with a key under which it is done once, however often it is asked.
    pub fn post_once(&self, path: &str, body: &Value, key: &str) -> io::Result<Answer> {
        self.ask_with("POST", path, Some(body), &format!("Idempotency-Key: {key}\r\n"))
    }

    fn ask_with(&self, method: &str, path: &str, body: Option<&Value>, headers: &str) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let cut = || io::Error::from(ErrorKind::UnexpectedEof);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
        let mut answer = Answer {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .ok_or_else(cut)?,
            head: head.to_owned(),
            body: Value::Null,
        };
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok());
        if length != Some(body.len()) {
            return Err(cut());
        }
        let is_json = answer
            .header("content-type")
            .is_none_or(|kind| kind.starts_with("application/json"));
        answer.body = if is_json {
            serde_json::from_str(body)?
        } else {
            body.into()
        };
        Ok(answer)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).unwrap().good()
    }

    pub fn post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.ask("POST", path, Some(body))
    }

    /// Posts what must be accepted.
    #[track_caller]
    pub fn done(&self, path: &str, body: &Value) -> Value {
        self.post(path, body).unwrap().good()
    }

    /// Puts what must be accepted.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Value {
        self.ask("PUT", path, Some(body)).unwrap().good()
    }

    /// Submits a task that must be accepted.
    #[track_caller]
    pub fn submit(&self, id: &str) {
        self.done("/api/tasks", &json!({ "id": id, "title": id }));
    }

    /// What a sync answers.
    #[track_caller]
    pub fn sync(&self, agent: &str, body: &Value) -> Value {
        self.done(&format!("/api/agents/{agent}/sync"), body)
    }

    /// All pages of a list of tasks.
    #[track_caller]
    pub fn pages(&self, path: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.ask("GET", &path, None).unwrap();
            next = answer.header("link").map(|link| {
                let (_, rest) = link.split_once('<').unwrap();
                rest.split_once('>').unwrap().0.to_owned()
            });
            found.extend(answer.good().as_array().unwrap().iter().cloned());
        }
        found
    }

    /// The state of a task.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.get(&format!("/api/tasks/{id}"))["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}
