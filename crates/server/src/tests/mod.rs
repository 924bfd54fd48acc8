//! Tests at the level at which users speak: requests to the whole router, over a real engine and store.

mod a2a;
mod access;
mod agents;
mod dashboard;
mod events;
mod fuzz;
mod limits;
mod matrix;
mod mcp;
mod overload;
mod peers;
mod serving;
mod tasks;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::{Actor, Role};
use adjutant_core::command::{AccessToken, Command};
use adjutant_core::set::Settings;
use adjutant_core::time::Timestamp;
use adjutant_engine::{Engine, Handle};
use adjutant_store::Store;
use adjutant_store::memory::Memory;
use adjutant_store::sqlite::Sqlite;
use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::access::guard::Peer;
use crate::app::App;
use crate::config::Config;
use crate::token::digest;

/// A whole server without sockets, on a store of its own.
struct TestApp {
    app: App,
    router: Router,
    handle: Handle,
    shutdown: CancellationToken,
    _engine: Engine,
    _directory: Option<TempDir>,
}

impl TestApp {
    /// A server with the administrator's token `admin`.
    async fn full() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(directory.path().join("adjutant.db")).unwrap();
        Self {
            _directory: Some(directory),
            ..Self::on(store, config).await
        }
    }

    /// A server in memory, for tests that need many.
    async fn light() -> Self {
        Self::on(Memory::alone(), Config::default()).await
    }

    async fn on(store: impl Store + 'static, config: Config) -> Self {
        let (handle, engine) = Engine::start(store, Settings::default()).unwrap();
        let shutdown = CancellationToken::new();
        put_token(&handle, "admin", &["admin"]).await;
        let app = App::open(handle.clone(), config, shutdown.clone()).await.unwrap();
        Self {
            router: app.clone().router(),
            app,
            handle,
            shutdown,
            _engine: engine,
            _directory: None,
        }
    }

    /// Someone who shows this token.
    fn speaker(&self, token: &str) -> Speaker {
        Speaker {
            router: self.router.clone(),
            token: Some(token.to_owned()),
        }
    }

    fn admin(&self) -> Speaker {
        self.speaker("admin")
    }

    fn nobody(&self) -> Speaker {
        Speaker {
            token: None,
            ..self.admin()
        }
    }

    /// Someone with these roles; the token has the name `name`.
    async fn with_roles(&self, name: &str, roles: &[&str]) -> Speaker {
        put_token(&self.handle, name, roles).await;
        self.speaker(name)
    }
}

/// Keeps a token whose secret is its name.
async fn put_token(handle: &Handle, name: &str, roles: &[&str]) {
    let token = AccessToken {
        name: name.into(),
        digest: digest(name),
        roles: roles.iter().map(|role| role.parse::<Role>().unwrap()).collect(),
        created_at: Timestamp::EPOCH,
    };
    handle
        .call(Actor::admin(), Command::PutToken(token), None)
        .await
        .unwrap();
}

/// Someone who sends requests.
#[derive(Clone)]
struct Speaker {
    router: Router,
    token: Option<String>,
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl Speaker {
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost:7717")
            .extension(Peer {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                standing: Arc::default(),
            });
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
        self.router.clone().call(request).await.unwrap()
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<String>) -> Reply {
        let response = self.send(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], None).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.ask("POST", path, &[], Some(body.to_string())).await
    }

    async fn post_empty(&self, path: &str) -> Reply {
        self.ask("POST", path, &[], None).await
    }

    async fn put(&self, path: &str, body: Value) -> Reply {
        self.ask("PUT", path, &[], Some(body.to_string())).await
    }

    async fn patch(&self, path: &str, body: Value) -> Reply {
        self.ask("PATCH", path, &[], Some(body.to_string())).await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path, &[], None).await
    }
}

impl Reply {
    /// The body of a good answer.
    #[track_caller]
    fn good(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.body
    }

    /// Asserts status and slug, and gives the message.
    #[track_caller]
    fn refused(self, status: u16, slug: &str) -> String {
        assert_eq!(
            (self.status.as_u16(), self.body["error"].as_str()),
            (status, Some(slug)),
            "{}",
            self.text
        );
        assert_eq!(self.body["code"], status);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

/// A stream of server-sent events, as it arrives.
struct EventStream {
    stream: BodyDataStream,
    text: String,
}

impl EventStream {
    fn of(response: Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            stream: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next message, with all of its lines; none at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let message = message.to_owned();
                self.text = rest.to_owned();
                return Some(message);
            }
            let chunk = timeout(Duration::from_secs(10), self.stream.next())
                .await
                .expect("an event in time")?;
            self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }
}
