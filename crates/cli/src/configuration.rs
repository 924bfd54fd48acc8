//! Configuration: flags, then `ADJUTANT_*` environment variables, then `adjutant.toml`, then defaults.
//!
//! Every value is parsed here, once, and a wrong one is told with the name of where it came from.

mod retention;
mod traces;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adjutant_core::time::Span;
use serde::Deserialize;

use crate::arguments::{Global, Logging};
use crate::failure::{Failure, Outcome};
use crate::fleet::AllowanceEntry;
use crate::store_url::StoreUrl;
use crate::toml_file;

/// Where the server listens when nothing else is said.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:7717";
/// Where tasks are kept when nothing else is said.
pub(crate) const DEFAULT_STORE: &str = "sqlite:./adjutant.db";
/// The configuration file that is read where it exists.
const FILE_NAME: &str = "adjutant.toml";

/// What `adjutant.toml` may say. A key that is not here is refused by name.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    listen: Option<String>,
    store: Option<String>,
    open: Option<bool>,
    public_url: Option<String>,
    tls_cert: Option<String>,
    tls_key: Option<String>,
    ca: Option<String>,
    agent_ttl: Option<Span>,
    claim_lease: Option<Span>,
    allow_private_peers: Option<bool>,
    peer_timeout: Option<Span>,
    keep_finished: Option<Span>,
    keep_finished_count: Option<u64>,
    keep_events: Option<Span>,
    keep_events_count: Option<u64>,
    otlp_endpoint: Option<String>,
    log_format: Option<String>,
    log_level: Option<String>,
    default_allowance: Option<AllowanceEntry>,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Where variables come from; tests have their own.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Looks values up. Flags are passed to each question, since each command has its own.
pub(crate) struct Configuration {
    file: File,
    file_name: PathBuf,
    environment: Environment,
    url: Option<String>,
    token: Option<String>,
    store: Option<String>,
    ca: Option<String>,
}

impl Configuration {
    /// Reads the configuration file and remembers the global flags.
    pub(crate) fn load(global: &Global) -> Outcome<Self> {
        Self::load_from(global, Box::new(|name| std::env::var(name).ok()))
    }

    fn load_from(global: &Global, environment: Environment) -> Outcome<Self> {
        let named = global.config.clone().or_else(|| {
            environment("ADJUTANT_CONFIG")
                .filter(|name| !name.is_empty())
                .map(PathBuf::from)
        });
        let file_name = named.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME));
        let file = if named.is_some() || file_name.exists() {
            toml_file::read("the configuration file", &file_name)?
        } else {
            File::default()
        };
        Ok(Self {
            file,
            file_name,
            environment,
            url: global.url.clone(),
            token: global.token.clone(),
            store: global.store.clone(),
            ca: global.ca.clone(),
        })
    }

    /// The flag, else the environment variable, else the key of the file, each as text with the name of its place.
    fn text(&self, flag: Option<&String>, name: &str, in_file: Option<&String>) -> Option<(String, String)> {
        if let Some(value) = flag {
            return Some((value.clone(), format!("--{}", name.replace('_', "-"))));
        }
        let variable = format!("ADJUTANT_{}", name.to_uppercase());
        if let Some(value) = (self.environment)(&variable).filter(|value| !value.is_empty()) {
            return Some((value, variable));
        }
        in_file.map(|value| (value.clone(), format!("{}: {name}", self.file_name.display())))
    }

    fn parsed<T: FromStr<Err = String>>(
        &self,
        flag: Option<&String>,
        name: &str,
        in_file: Option<&String>,
    ) -> Outcome<Option<T>> {
        self.text(flag, name, in_file)
            .map(|(value, place)| {
                value
                    .parse()
                    .map_err(|why| Failure::usage(format!("{place}: {why}")))
            })
            .transpose()
    }

    /// Where `serve` and `up` listen; `fleet` is what a fleet file says about it.
    pub(crate) fn listen(&self, flag: Option<&String>, fleet: Option<&String>) -> Outcome<SocketAddr> {
        let in_file = fleet.or(self.file.listen.as_ref());
        let (value, place) = self
            .text(flag, "listen", in_file)
            .unwrap_or_else(|| (DEFAULT_LISTEN.into(), "default".into()));
        let with_host = if value.starts_with(':') {
            format!("127.0.0.1{value}")
        } else {
            value.clone()
        };
        with_host
            .replacen("localhost:", "127.0.0.1:", 1)
            .parse()
            .map_err(|_| {
                Failure::usage(format!("{place}: `{value}` is not an address with a port"))
                    .hint("write for example 127.0.0.1:7717, or 127.0.0.1:0 for any free port")
            })
    }

    /// Whether colours are welcome: <https://no-color.org>.
    pub(crate) fn wants_colours(&self) -> bool {
        (self.environment)("NO_COLOR").is_none_or(|value| value.is_empty())
    }

    /// Whether the terminal says that it can only print line after line.
    pub(crate) fn is_dumb_terminal(&self) -> bool {
        (self.environment)("TERM").is_some_and(|name| name == "dumb")
    }

    /// Where tasks are kept; `fleet` is what a fleet file says about it.
    pub(crate) fn store(&self, fleet: Option<&String>) -> Outcome<StoreUrl> {
        let in_file = fleet.or(self.file.store.as_ref());
        let (value, place) = self
            .text(self.store.as_ref(), "store", in_file)
            .unwrap_or_else(|| (DEFAULT_STORE.into(), "default".into()));
        StoreUrl::parse(&value, &place)
    }

    /// The store, when a flag names it on this very command line.
    pub(crate) fn store_flag(&self) -> Outcome<Option<StoreUrl>> {
        self.store
            .as_ref()
            .map(|value| StoreUrl::parse(value, "--store"))
            .transpose()
    }

    /// The server that commands talk to.
    pub(crate) fn url(&self) -> Outcome<String> {
        let Some((value, place)) = self.text(self.url.as_ref(), "url", self.file.url.as_ref()) else {
            let scheme = if self.tls_cert(None).is_some() {
                "https"
            } else {
                "http"
            };
            return Ok(format!("{scheme}://{}", reachable(self.listen(None, None)?)));
        };
        if value.starts_with("http://") || value.starts_with("https://") {
            Ok(value.trim_end_matches('/').to_owned())
        } else {
            Err(Failure::usage(format!("{place}: `{value}` is not a URL"))
                .hint("write for example http://127.0.0.1:7717"))
        }
    }

    /// The token that commands carry: a flag, the environment, else the file that the server wrote beside its store.
    pub(crate) fn token(&self) -> Outcome<Option<String>> {
        let set = |token: Option<String>| token.filter(|token| !token.is_empty());
        let given = set(self.token.clone())
            .or_else(|| set((self.environment)("ADJUTANT_TOKEN")))
            .or_else(|| set((self.environment)("ADJUTANT_ADMIN_TOKEN")));
        if given.is_some() {
            return Ok(given);
        }
        if !is_this_machine(&self.url()?) {
            // The file is the key to the server beside it, and not for others.
            return Ok(None);
        }
        let file = self.store(None)?.token_file();
        match std::fs::read_to_string(&file) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::new(format!(
                "cannot read the access token in {}: {error}",
                file.display()
            ))
            .hint("set ADJUTANT_TOKEN, or run the command as the user who runs the server")),
        }
    }

    /// The admin token that the operator chose, if any.
    pub(crate) fn admin_token(&self) -> Outcome<Option<String>> {
        let token = (self.environment)("ADJUTANT_ADMIN_TOKEN").filter(|token| !token.is_empty());
        match &token {
            Some(token) if token.len() < 16 => Err(Failure::usage(
                "ADJUTANT_ADMIN_TOKEN: has fewer than 16 characters",
            )
            .hint("choose a long random one, for example `openssl rand -hex 32`")),
            _ => Ok(token),
        }
    }

    /// How long an agent may be silent.
    pub(crate) fn agent_ttl(&self, flag: Option<&String>, fleet: Option<Span>) -> Outcome<Option<Span>> {
        let ttl = self
            .parsed(flag, "agent_ttl", None)?
            .or(fleet)
            .or(self.file.agent_ttl);
        match ttl {
            Some(ttl) if ttl < Span::from_secs(1) => Err(Failure::usage("agent_ttl: must be at least 1s")),
            _ => Ok(ttl),
        }
    }

    /// How long a claim by an agent that is not registered lasts.
    pub(crate) fn claim_lease(&self, flag: Option<&String>) -> Outcome<Option<Span>> {
        let lease = self.parsed(flag, "claim_lease", None)?.or(self.file.claim_lease);
        match lease {
            Some(lease) if lease < Span::from_secs(1) => {
                Err(Failure::usage("claim_lease: must be at least 1s"))
            }
            _ => Ok(lease),
        }
    }

    /// Whether the server goes to agents at addresses of its own machine and network.
    pub(crate) fn allow_private_peers(&self, flag: bool) -> Outcome<bool> {
        self.switch(
            flag,
            "ADJUTANT_ALLOW_PRIVATE_PEERS",
            self.file.allow_private_peers,
        )
    }

    /// How long an agent that the server goes to has for each answer.
    pub(crate) fn peer_timeout(&self, flag: Option<&String>) -> Outcome<Option<Span>> {
        let timeout = self
            .parsed(flag, "peer_timeout", None)?
            .or(self.file.peer_timeout);
        match timeout {
            Some(timeout) if timeout < Span::from_secs(1) => {
                Err(Failure::usage("peer_timeout: must be at least 1s"))
            }
            _ => Ok(timeout),
        }
    }

    /// The URL under which others reach the server.
    pub(crate) fn public_url(&self, flag: Option<&String>) -> Option<String> {
        self.text(flag, "public_url", self.file.public_url.as_ref())
            .map(|(value, _)| value)
    }

    /// The file with the certificate that the server shows.
    pub(crate) fn tls_cert(&self, flag: Option<&String>) -> Option<PathBuf> {
        self.path(flag, "tls_cert", self.file.tls_cert.as_ref())
    }

    /// The file with the private key of that certificate.
    pub(crate) fn tls_key(&self, flag: Option<&String>) -> Option<PathBuf> {
        self.path(flag, "tls_key", self.file.tls_key.as_ref())
    }

    /// The file with the certificates of authorities that commands trust instead of the system's.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.path(self.ca.as_ref(), "ca", self.file.ca.as_ref())
    }

    /// The same as PEM.
    pub(crate) fn ca(&self) -> Outcome<Option<Vec<u8>>> {
        let Some(file) = self.ca_file() else {
            return Ok(None);
        };
        std::fs::read(&file).map(Some).map_err(|error| {
            Failure::usage(format!(
                "cannot read the certificates in {}: {error}",
                file.display()
            ))
        })
    }

    fn path(&self, flag: Option<&String>, name: &str, in_file: Option<&String>) -> Option<PathBuf> {
        self.text(flag, name, in_file).map(|(value, _)| value.into())
    }

    /// Whether the server asks for no tokens.
    pub(crate) fn open(&self, flag: bool) -> Outcome<bool> {
        self.switch(flag, "ADJUTANT_OPEN", self.file.open)
    }

    fn switch(&self, flag: bool, variable: &str, in_file: Option<bool>) -> Outcome<bool> {
        if flag {
            return Ok(true);
        }
        match (self.environment)(variable).as_deref() {
            None | Some("") => Ok(in_file.unwrap_or(false)),
            Some("1" | "true") => Ok(true),
            Some("0" | "false") => Ok(false),
            Some(other) => Err(Failure::usage(format!(
                "{variable}: `{other}` is not one of true, false"
            ))),
        }
    }

    /// What agents without an allowance of their own may use.
    pub(crate) fn default_allowance(&self) -> Option<&AllowanceEntry> {
        self.file.default_allowance.as_ref()
    }

    /// How log lines look.
    pub(crate) fn log_format(&self, flags: &Logging) -> Outcome<LogFormat> {
        let format = self.parsed(
            flags.log_format.as_ref(),
            "log_format",
            self.file.log_format.as_ref(),
        )?;
        Ok(format.unwrap_or(LogFormat::Text))
    }

    /// What is logged.
    pub(crate) fn log_level(&self, flags: &Logging, default: &str) -> (String, String) {
        self.text(
            flags.log_level.as_ref(),
            "log_level",
            self.file.log_level.as_ref(),
        )
        .unwrap_or_else(|| (default.to_owned(), "default".to_owned()))
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not one of text, json")),
        }
    }
}

/// The address under which this machine reaches a server that listens on `address`.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
        }
        other => other,
    }
}

/// The file beside a path.
pub(crate) fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(name)
}

/// Whether a URL names this machine.
fn is_this_machine(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(six) => six.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn configuration(
        file: &str,
        environment: &'static [(&'static str, &'static str)],
    ) -> Outcome<Configuration> {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().join("adjutant.toml");
        std::fs::write(&name, file).unwrap();
        let global = Global {
            config: Some(name),
            ..Global::default()
        };
        let look_up = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Configuration::load_from(&global, Box::new(look_up))
    }

    #[test]
    fn flags_come_before_the_environment_before_the_file_before_defaults() {
        let file = "listen = '127.0.0.1:1'\n";
        let flag = "127.0.0.1:3".to_owned();
        let all = configuration(file, &[("ADJUTANT_LISTEN", "127.0.0.1:2")]).unwrap();
        assert_eq!(all.listen(Some(&flag), None).unwrap().port(), 3);
        assert_eq!(all.listen(None, None).unwrap().port(), 2);
        assert_eq!(
            configuration(file, &[])
                .unwrap()
                .listen(None, None)
                .unwrap()
                .port(),
            1
        );
        assert_eq!(
            configuration("", &[]).unwrap().listen(None, None).unwrap().port(),
            7717
        );
        assert_eq!(
            configuration("", &[]).unwrap().url().unwrap(),
            "http://127.0.0.1:7717"
        );
        let wide = configuration("listen = '0.0.0.0:80'", &[]).unwrap();
        assert_eq!(wide.url().unwrap(), "http://127.0.0.1:80");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let Err(failure) = configuration("\nlisten = ':1'\nstroe = 'x'\n", &[]) else {
            panic!("accepted an unknown key");
        };
        assert!(
            failure
                .to_string()
                .contains("adjutant.toml:3: unknown key `stroe`"),
            "{failure}"
        );
    }

    #[test]
    fn a_wrong_value_names_where_it_came_from() {
        let one = configuration("", &[("ADJUTANT_AGENT_TTL", "soon")]).unwrap();
        let failure = one.agent_ttl(None, None).unwrap_err().to_string();
        assert!(
            failure.starts_with("error: ADJUTANT_AGENT_TTL: `soon` is not a duration"),
            "{failure}"
        );
        let failure = one.listen(Some(&"nowhere".into()), None).unwrap_err().to_string();
        assert!(
            failure.starts_with("error: --listen: `nowhere` is not an address"),
            "{failure}"
        );
    }
}
