//! The composition: a store, an engine on it, and a server in front, in this process.
//!
//! The address is taken first, so that a busy port costs nothing; then the store is opened, the engine started, the
//! tokens put in place, and at last requests are answered: a host that has started cannot fail to answer any more. It
//! ends in the other direction.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::access::{Actor, Role};
use adjutant_core::command::{AccessToken, Answer, Command};
use adjutant_core::limit::Policy;
use adjutant_core::time::Span;
use adjutant_engine::clock::{SharedClock, SystemClock, wall};
use adjutant_engine::{Engine, Handle, Refusal, Retention};
use adjutant_server::{ServeError, Server, SignInLinks, Tls, token};
use adjutant_store::postgres::Postgres;
use adjutant_store::sqlite::{OpenError, Sqlite};
use adjutant_trace::{Endpoint, Traces};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::configuration::reachable;
use crate::failure::{Failure, Outcome};
use crate::fleet::AllowanceEntry;
use crate::open_files;
use crate::store_url::StoreUrl;

/// The name of the token that the first start makes.
const ADMIN: &str = "admin";

/// Files that are open beside connections: the store with its readers, logs, and some to spare.
const OWN_FILES: usize = 64;
/// A server that can serve fewer connections than this is of no use, and tries.
const LEAST_CONNECTIONS: usize = 16;

/// What speaks for agents with a URL has so long to leave them, and what delivers for webhooks to note how that went.
const OUTWARD_PATIENCE: Duration = Duration::from_secs(8);
/// How long the last traces are waited for at the end. A collector that is there takes them in less.
const TRACES_PATIENCE: Duration = Duration::from_secs(3);

/// What helps a store that is damaged.
const MEND: &str = "move it and the files beside it away and put a backup in its place with `adjutant restore`; \
    without one, `sqlite3 FILE .recover` saves what can be read";

/// What a host is told.
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where tasks are kept.
    pub(crate) store: StoreUrl,
    /// Whether everyone is an administrator.
    pub(crate) open: bool,
    /// The URL by which others reach it.
    pub(crate) public_url: Option<String>,
    /// The certificate and key, where it speaks TLS.
    pub(crate) tls: Option<Tls>,
    /// How long an agent may be silent.
    pub(crate) agent_ttl: Option<Span>,
    /// How long a claim by an agent that is not registered lasts.
    pub(crate) claim_lease: Option<Span>,
    /// What is kept of what is over.
    pub(crate) retention: Retention,
    /// Whether the server goes to agents at addresses of its own machine and network.
    pub(crate) allow_private_peers: bool,
    /// How long an agent that the server goes to has for each answer.
    pub(crate) peer_timeout: Option<Span>,
    /// What agents without an allowance of their own may use.
    pub(crate) default_allowance: Option<AllowanceEntry>,
    /// The admin token that the operator chose.
    pub(crate) admin_token: Option<String>,
    /// Tokens that live as long as this process.
    pub(crate) guests: Vec<Guest>,
    /// Where traces are sent to, if anywhere.
    pub(crate) traces: Option<Endpoint>,
}

impl Settings {
    /// What the server is told, when it listens on this address and may have so many files open.
    fn server(&self, address: SocketAddr, files: usize) -> adjutant_server::Config {
        let mut config = adjutant_server::Config {
            listen_names: vec![self.listen.ip().to_string(), address.ip().to_string()],
            public_url: self.public_url.clone(),
            tls: self.tls.clone(),
            open: self.open,
            allow_private_peers: self.allow_private_peers,
            ..adjutant_server::Config::default()
        };
        if let Some(span) = self.peer_timeout {
            config.peer_patience = Duration::from_micros(span.as_micros().unsigned_abs());
        }
        let excess = config.files().saturating_sub(files);
        config.max_connections = config
            .max_connections
            .saturating_sub(excess)
            .max(LEAST_CONNECTIONS);
        config
    }

    /// Whether what is sent can be read on its way.
    fn is_in_the_clear(&self) -> bool {
        let behind_tls = self
            .public_url
            .as_ref()
            .is_some_and(|url| url.starts_with("https://"));
        !self.listen.ip().is_loopback() && self.tls.is_none() && !behind_tls
    }

    fn engine(&self) -> adjutant_engine::Settings {
        let defaults = adjutant_engine::Settings::default();
        let mut policy = Policy::default();
        if let Some(allowance) = &self.default_allowance {
            allowance.domain().put(&mut policy);
        }
        adjutant_engine::Settings {
            agent_ttl: self.agent_ttl.unwrap_or(defaults.agent_ttl),
            claim_lease: self.claim_lease.unwrap_or(defaults.claim_lease),
            default_allowance: Arc::new(policy),
        }
    }
}

/// A token that lives as long as this process.
#[derive(Clone)]
pub(crate) struct Guest {
    name: String,
    role: Role,
    /// The secret.
    pub(crate) token: String,
}

impl Guest {
    /// A new token with this name and role.
    pub(crate) fn new(name: impl Into<String>, role: Role) -> Outcome<Self> {
        Ok(Self {
            name: name.into(),
            role,
            token: generate()?,
        })
    }
}

/// A running server.
pub(crate) struct Host {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How many connections there may be at a time.
    max_connections: usize,
    running: Running,
    /// Gone once its end was told.
    server: Option<JoinHandle<()>>,
    /// Speaks for the agents that have a URL.
    peers: JoinHandle<()>,
    /// Tells places of events.
    webhooks: JoinHandle<()>,
    leaving: CancellationToken,
    links: SignInLinks,
    shutdown: CancellationToken,
    guests: Vec<Guest>,
    traces: Option<Traces>,
}

impl Host {
    /// Tells how many connections there may be, and how there may be more.
    pub(crate) fn tell_room(&self) {
        let connections = self.max_connections;
        if connections < adjutant_server::Config::default().max_connections {
            tracing::warn!(
                connections,
                "open files are limited, and so are connections: raise the hard limit (LimitNOFILE= of a systemd unit, \
                 ulimit -Hn) where more agents are to connect"
            );
        } else {
            tracing::info!(connections, "so many connections may be open at a time");
        }
    }

    /// Tells who stands at the terminal where to open the dashboard as the administrator, once. Nobody else is told: a log
    /// may be read by many. Where that token was revoked, or cannot be read, there is no invitation.
    pub(crate) async fn invite(&self, scheme: &str) {
        let mut terminal = std::io::stderr();
        if !terminal.is_terminal() {
            return;
        }
        let base = format!("{scheme}://{}", reachable(self.address));
        match self.links.make(ADMIN, &base).await {
            Ok(Some(link)) => {
                // A terminal that is gone by now needs no invitation.
                let _ = writeln!(
                    terminal,
                    "dashboard: {link} (once, within ten minutes; then `adjutant token link`)"
                );
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no link to the dashboard could be made"),
        }
    }

    /// Starts everything.
    pub(crate) async fn start(settings: Settings) -> Outcome<Self> {
        if settings.open && !settings.listen.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "--open lets everyone in, and {} can be reached by other machines",
                settings.listen
            ))
            .hint("listen on a loopback address such as 127.0.0.1:7717, or leave out --open"));
        }
        let listener = bind(settings.listen).await?;
        let address = listener.local_addr()?;
        let config = settings.server(address, open_files::allowed().saturating_sub(OWN_FILES));
        config.check()?;
        let max_connections = config.max_connections;
        if settings.is_in_the_clear() {
            tracing::warn!(
                %address,
                "tokens and tasks can be read on their way here: give --tls-cert and --tls-key, or put a TLS proxy in \
                 front and set --public-url to its https:// address"
            );
        }
        let running = Running::start(settings.store.clone(), settings.engine(), settings.retention).await?;
        let started = async {
            let traces = running.trace(settings.traces.as_ref()).await?;
            let (server, links, shutdown) = Self::open(&settings, &running, config).await?;
            Ok((server, links, shutdown, traces))
        };
        match started.await {
            Ok((server, links, shutdown, traces)) => {
                let leaving = CancellationToken::new();
                let peers = tokio::spawn(server.speak_for_peers(leaving.clone()));
                let webhooks = tokio::spawn(server.deliver_webhooks(leaving.clone()));
                Ok(Self {
                    address,
                    max_connections,
                    running,
                    server: Some(tokio::spawn(server.run(listener))),
                    peers,
                    webhooks,
                    leaving,
                    links,
                    shutdown,
                    guests: settings.guests,
                    traces,
                })
            }
            Err(failure) => {
                running.stop().await?;
                Err(failure)
            }
        }
    }

    async fn open(
        settings: &Settings,
        running: &Running,
        config: adjutant_server::Config,
    ) -> Outcome<(Server, SignInLinks, CancellationToken)> {
        admit_admin(settings, &running.handle).await?;
        for guest in &settings.guests {
            put_token(
                &running.handle,
                &guest.name,
                &guest.token,
                std::slice::from_ref(&guest.role),
            )
            .await?;
        }
        let shutdown = CancellationToken::new();
        let (server, links) = Server::open(running.handle.clone(), config, shutdown.clone()).await?;
        Ok((server, links, shutdown))
    }

    /// Waits until the server or the engine ends by itself, which neither should, and says why it did.
    pub(crate) async fn failed(&mut self) -> Failure {
        let server = async {
            match &mut self.server {
                Some(server) => server.await,
                None => std::future::pending().await,
            }
        };
        let failure = tokio::select! {
            ended = server => match ended {
                Ok(()) => Failure::new("the server has ended"),
                Err(error) => Failure::new(format!("the server broke: {error}")),
            },
            failure = self.running.failed() => return failure,
        };
        self.server = None;
        failure
    }

    /// Answers what is in flight, commits, and ends.
    pub(crate) async fn stop(self) -> Outcome {
        for guest in &self.guests {
            let revoke = Command::RevokeToken(guest.name.as_str().into());
            if let Err(refusal) = self.running.handle.call(Actor::admin(), revoke, None).await {
                // The next start puts another secret in its place, and this one is known to nobody.
                tracing::warn!(%refusal, token = guest.name, "a token could not be revoked");
            }
        }
        // They write down where they are, so the engine still has to be there.
        self.leaving.cancel();
        let (peers, webhooks) = tokio::join!(
            tokio::time::timeout(OUTWARD_PATIENCE, self.peers),
            tokio::time::timeout(OUTWARD_PATIENCE, self.webhooks),
        );
        match peers {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what speaks for agents with a url broke"),
            Err(_) => tracing::warn!("some agents with a url were not left in good order"),
        }
        match webhooks {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what delivers for webhooks broke"),
            Err(_) => tracing::warn!("what was delivered last could not be noted, and is delivered again"),
        }
        self.shutdown.cancel();
        // Requests that wait in the engine are answered by its end, so both end at the same time.
        let engine = self.running.stop();
        let server = async {
            match self.server {
                Some(server) => server.await,
                None => Ok(()),
            }
        };
        let (engine, server) = tokio::join!(engine, server);
        if let Some(traces) = self.traces {
            traces.finish(TRACES_PATIENCE).await;
        }
        server.map_err(|error| Failure::new(format!("the server broke: {error}")))?;
        engine
    }
}

/// Makes a token with direct access to a store that no server has open.
pub(crate) async fn create_token(store: &StoreUrl, name: &str, roles: &[Role]) -> Outcome<String> {
    token::check_name(name).map_err(|why| Failure::usage(format!("name: {why}")))?;
    let running = Running::start(
        store.clone(),
        adjutant_engine::Settings::default(),
        Retention::default(),
    )
    .await?;
    let made = async {
        let tokens = running.handle.query(|reader| reader.tokens()).await?;
        if tokens.iter().any(|token| &*token.name == name) {
            return Err(
                Failure::new(format!("there is a token `{name}` already")).hint("choose another name")
            );
        }
        let token = generate()?;
        put_token(&running.handle, name, &token, roles).await?;
        Ok(token)
    }
    .await;
    running.stop().await?;
    made
}

async fn bind(address: SocketAddr) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let failure = Failure::new(format!("cannot listen on {address}: {error}"));
        match error.kind() {
            io::ErrorKind::AddrInUse => failure.hint(
                "another program has the port, perhaps another `adjutant serve`; choose one with --listen, or 127.0.0.1:0",
            ),
            io::ErrorKind::AddrNotAvailable => failure.hint("this machine does not have that address"),
            io::ErrorKind::PermissionDenied => failure.hint("ports below 1024 need privileges: choose a higher one"),
            _ => failure,
        }
    })
}

/// Puts the admin token in place: the operator's, else one that is made on the first start.
async fn admit_admin(settings: &Settings, handle: &Handle) -> Outcome {
    if let Some(token) = &settings.admin_token {
        return put_token(handle, ADMIN, token, &[Role::Admin]).await;
    }
    let tokens = handle.query(|reader| reader.tokens()).await?;
    if tokens.iter().any(|token| &*token.name == ADMIN) {
        return Ok(());
    }
    let file = settings.store.token_file();
    // Another store in the same directory has its token here: both take the same one.
    if let Ok(token) = std::fs::read_to_string(&file)
        && !token.trim().is_empty()
    {
        return put_token(handle, ADMIN, token.trim(), &[Role::Admin]).await;
    }
    // The file comes first: a token in the store that nobody knows would lock everyone out.
    let token = generate()?;
    write_secret(&file, &token).map_err(|error| {
        Failure::new(format!(
            "cannot write the admin token to {}: {error}",
            file.display()
        ))
        .hint("make the directory writable, or choose the token yourself with ADJUTANT_ADMIN_TOKEN")
    })?;
    put_token(handle, ADMIN, &token, &[Role::Admin]).await?;
    tracing::info!(file = %file.display(), "wrote the admin token");
    Ok(())
}

/// Writes a file that only its user can read, whole or not at all.
fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let part = file.with_extension("token.part");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    writeln!(opened, "{secret}")?;
    opened.sync_all()?;
    std::fs::rename(&part, file)
}

async fn put_token(handle: &Handle, name: &str, secret: &str, roles: &[Role]) -> Outcome {
    let command = Command::PutToken(AccessToken {
        name: name.into(),
        digest: token::digest(secret),
        roles: roles.into(),
        created_at: wall(),
    });
    handle.call(Actor::admin(), command, None).await?;
    Ok(())
}

fn generate() -> Outcome<String> {
    token::generate().map_err(|error| Failure::new(error.to_string()))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Config(why) => Self::usage(why),
            ServeError::Engine(_) => Self::new(error.to_string()),
        }
    }
}

/// A running engine.
struct Running {
    handle: Handle,
    engine: Engine,
    /// The store, as it may be shown.
    store: String,
    /// Why the file cannot be trusted, once that was found.
    damage: watch::Receiver<Option<String>>,
}

impl Running {
    /// Opens the store and starts the engine on it.
    async fn start(
        store: StoreUrl,
        settings: adjutant_engine::Settings,
        retention: Retention,
    ) -> Outcome<Self> {
        // Opening may take as long as the disk or the network does.
        match tokio::task::spawn_blocking(move || Self::open(&store, settings, retention)).await {
            Ok(started) => started,
            Err(error) => Err(Failure::new(format!("the store could not be opened: {error}"))),
        }
    }

    fn open(store: &StoreUrl, settings: adjutant_engine::Settings, retention: Retention) -> Outcome<Self> {
        let (tell, damage) = watch::channel(None);
        let name = match store {
            StoreUrl::Sqlite(path) => path.display().to_string(),
            StoreUrl::Postgres(_) => store.to_string(),
        };
        let started = match store {
            StoreUrl::Sqlite(path) => {
                let store = Sqlite::open(path).map_err(|error| refused(&error))?;
                store.on_damage(move |why| {
                    tell.send_replace(Some(why.to_owned()));
                });
                Engine::start_with(store, settings, retention, Box::new(SystemClock::new())).map_err(
                    |error| Failure::new(format!("the store {name} cannot be read: {error}")).hint(MEND),
                )
            }
            StoreUrl::Postgres(url) => {
                let store = Postgres::open(url).map_err(|error| Failure::new(format!("--store: {error}")))?;
                let clock = SharedClock::at(store.now());
                Engine::start_with(store, settings, retention, Box::new(clock))
                    .map_err(|error| Failure::new(format!("the store {name} cannot be read: {error}")))
            }
        };
        let (handle, engine) = started?;
        Ok(Self {
            handle,
            engine,
            store: name,
            damage,
        })
    }

    /// Has what turns do traced, where somebody wants that.
    async fn trace(&self, endpoint: Option<&Endpoint>) -> Outcome<Option<Traces>> {
        let Some(endpoint) = endpoint else { return Ok(None) };
        let all = Command::ListAgents {
            status: None,
            capabilities: Vec::new(),
        };
        let agents = match self.handle.call(Actor::admin(), all, None).await? {
            Answer::Agents(agents) => agents,
            other => return Err(Failure::new(format!("asked for agents and got {other:?}"))),
        };
        let (traces, watcher) =
            Traces::start(endpoint, &agents).map_err(|error| Failure::new(error.to_string()))?;
        self.handle.watch(watcher)?;
        Ok(Some(traces))
    }

    /// Waits until the engine ends by itself, which it does only when it cannot go on, or until damage is found.
    async fn failed(&self) -> Failure {
        let mut damage = self.damage.clone();
        let damaged = async {
            match damage.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                // The store is gone with its engine, which tells its own end.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = damaged => Failure::new(format!("the store {} is damaged: {why}", self.store)).hint(MEND),
            () = self.engine.ended() => Failure::new("the engine has ended, the log says why")
                .hint("start again: nothing that was accepted is lost"),
        }
    }

    /// Commits what is there, and ends.
    async fn stop(self) -> Outcome {
        // Joins a thread, so it must not hold up this one.
        match tokio::task::spawn_blocking(move || self.engine.stop()).await {
            Ok(stopped) => stopped.map_err(|failure| Failure::new(failure.to_string())),
            Err(error) => Err(Failure::new(format!("the engine broke: {error}"))),
        }
    }
}

/// Says why a file cannot be used as a store, and how to mend it.
pub(crate) fn refused(error: &OpenError) -> Failure {
    let failure = Failure::new(format!("the store {error}"));
    match error {
        OpenError::InUse { .. } => failure.hint(
            "one process owns a store: stop the other `adjutant serve` or `adjutant up`, or use another --store",
        ),
        OpenError::Newer { .. } => failure.hint("use the version of adjutant that wrote it, or a newer one"),
        OpenError::Foreign { .. } => failure.hint("choose another file with --store"),
        OpenError::Damaged { .. } => failure.hint(MEND),
        OpenError::Behind { mark, .. } => failure.hint(format!(
            "put its log (the file that ends in -wal) back, or restore a backup; to go on with what is there, remove {}",
            mark.display()
        )),
        OpenError::Unusable { .. } => {
            failure.hint("its directory must exist and be writable, with space on the disk; or choose another --store")
        }
    }
}
