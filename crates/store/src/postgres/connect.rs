//! How a connection is made: plain or with TLS, as the URL says, and as libpq would make it.
//!
//! `tokio-postgres` knows three values of `sslmode` and leaves the proof of who answers to its caller. So `sslmode` and
//! `sslrootcert` are taken out of the URL and read here; the rest of it is read there.
//!
//! - `require` is encrypted, but whoever sits between may answer instead: that is what it means everywhere. `prefer`
//!   promises nothing at all, and is the default everywhere.
//! - What asks for more than is done is refused: where libpq would look at a certificate, so do we, or say that we don't.
//! - Certificates of authorities are read once, with the URL.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Failure, OpenError};

/// How long a host may take to answer, with TLS and the password: also one that answers nothing at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What carries the messages of a [`Client`].
pub(super) type Connection =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What a URL says, with what every connection has.
#[derive(Clone)]
pub(super) struct Config {
    postgres: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl Config {
    /// Reads a URL, and the certificates that it names.
    pub(super) fn read(url: &str) -> Result<Self, OpenError> {
        let (url, said) = Said::taken_from(url)?;
        let security = said.security()?;
        let mut postgres: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            OpenError::Url(format!("{error}{cause}"))
        })?;
        if postgres.get_application_name().is_none() {
            postgres.application_name("adjutant");
        }
        if postgres.get_connect_timeout().is_none() {
            postgres.connect_timeout(PATIENCE);
        }
        // A peer that is gone without a word is found out.
        postgres.keepalives_idle(Duration::from_secs(10));
        postgres.keepalives_interval(Duration::from_secs(5));
        postgres.keepalives_retries(3);
        if postgres.get_tcp_user_timeout().is_none() {
            postgres.tcp_user_timeout(Duration::from_secs(15));
        }
        // TLS wants a name, and an address is one.
        if postgres.get_hosts().is_empty() {
            for address in postgres.get_hostaddrs().to_vec() {
                postgres.host(address.to_string());
            }
        }
        if postgres.get_hosts().is_empty() {
            let port = postgres.get_ports().first().copied().unwrap_or(5432);
            match socket_directory(port) {
                Some(directory) => postgres.host_path(directory),
                None => postgres.host("localhost"),
            };
        }
        let security = on_these_hosts(security, &postgres)?;
        postgres.ssl_mode(security.mode());
        let tls = MakeRustlsConnect::new(security.client()?);
        Ok(Self { postgres, tls })
    }

    /// Where the database is, without the password.
    pub(super) fn place(&self) -> String {
        let host = match self.postgres.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => "localhost".into(),
        };
        let name = self
            .postgres
            .get_dbname()
            .or(self.postgres.get_user())
            .unwrap_or("");
        format!("`{name}` on {host}")
    }
}

/// Where a PostgreSQL of this machine listens: a URL without a host means that to libpq.
fn socket_directory(port: u16) -> Option<&'static str> {
    let directories = ["/var/run/postgresql", "/tmp"].into_iter();
    directories
        .filter(|_| cfg!(unix))
        .find(|directory| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists())
}

/// Makes a connection.
pub(super) async fn connect(config: &Config) -> Result<(Client, Connection), Failure> {
    let made = tokio::time::timeout(PATIENCE, attempt(config)).await;
    made.map_err(|_| Failure::Away("it does not answer".into()))?
        .map_err(explained)
}

async fn attempt(config: &Config) -> Result<(Client, Connection), tokio_postgres::Error> {
    let error = match config.postgres.connect(config.tls.clone()).await {
        Ok(made) => return Ok(made),
        Err(error) => error,
    };
    // As libpq: a server whose TLS is too old, or that lets this user in only without, is used without.
    let is_refused =
        |error: &tokio_postgres::Error| error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    let is_preferred = config.postgres.get_ssl_mode() == SslMode::Prefer;
    if !is_preferred || !(is_refused(&error) || of_tls(&error).is_some()) {
        return Err(error);
    }
    let mut plain = config.postgres.clone();
    plain.ssl_mode(SslMode::Disable);
    let made = plain.connect(config.tls.clone()).await;
    // One that takes no plain connections either is asked for what it said first.
    made.map_err(|again| if is_refused(&again) { error } else { again })
}

/// What went wrong with TLS, if that did.
fn of_tls(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let cause = std::error::Error::source(error)?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

/// Says what the libraries say only to those who know them.
fn explained(error: tokio_postgres::Error) -> Failure {
    let Some(cause) = of_tls(&error) else {
        // The library has no other mark for that.
        let offers_none = std::error::Error::source(&error)
            .is_some_and(|cause| cause.to_string() == "server does not support TLS");
        return if offers_none {
            Failure::Insecure(
                "it offers no TLS, which `sslmode` in the URL asks for; turn it on there (`ssl = on`), or say \
                 sslmode=disable where nobody else can listen"
                    .into(),
            )
        } else {
            error.into()
        };
    };
    let rustls::Error::InvalidCertificate(why) = cause else {
        return Failure::Insecure(format!("TLS with it fails: {cause}"));
    };
    Failure::Insecure(match why {
        CertificateError::UnknownIssuer => {
            "no authority that is trusted has signed its certificate; name the authority's certificate in the URL: \
             sslrootcert=FILE"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another host: {why}; write the host in the URL as the certificate does")
        }
        _ => format!("its certificate is refused: {why}"),
    })
}

/// What a URL says about TLS, and `tokio-postgres` does not read.
#[derive(Default)]
struct Said {
    mode: Option<String>,
    authorities: Option<String>,
}

impl Said {
    /// Takes it out of a URL; gives what is left of that.
    fn taken_from(url: &str) -> Result<(String, Self), OpenError> {
        let mut said = Self::default();
        // As `tokio-postgres` looks for it: a password may have a question mark.
        let after_user = url.find('@').unwrap_or(0);
        let Some(query) = url[after_user..].find('?').map(|at| after_user + at) else {
            return Ok((url.to_owned(), said));
        };
        let mut left = Vec::new();
        for parameter in url[query + 1..].split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let place = match name {
                "sslmode" => &mut said.mode,
                "sslrootcert" => &mut said.authorities,
                _ => {
                    left.push(parameter);
                    continue;
                }
            };
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| OpenError::Url(format!("`{name}` in the URL is not UTF-8")))?;
            // What is empty says nothing.
            *place = Some(value).filter(|value| !value.is_empty()).map(Cow::into_owned);
        }
        let separator = if left.is_empty() { "" } else { "?" };
        Ok((format!("{}{separator}{}", &url[..query], left.join("&")), said))
    }

    fn security(self) -> Result<Security, OpenError> {
        /// Of the system, as libpq calls them.
        const SYSTEM: &str = "system";
        let authorities = self.authorities.as_deref();
        let security = match self.mode.as_deref() {
            None if authorities == Some(SYSTEM) => Security::Proven(None),
            Some("verify-full") => {
                Security::Proven(authorities.filter(|file| *file != SYSTEM).map(Into::into))
            }
            None | Some("prefer") => Security::Preferred,
            Some("disable") => Security::None,
            Some("require") => Security::Encrypted,
            Some("verify-ca") => {
                return Err(OpenError::Url(
                    "sslmode=verify-ca is not supported; say sslmode=verify-full, which looks at the host name as well"
                        .into(),
                ));
            }
            Some(other) => {
                return Err(OpenError::Url(format!(
                    "sslmode=`{other}` is not supported; say disable, prefer, require or verify-full"
                )));
            }
        };
        match security {
            // Whoever names authorities wants them to be asked.
            Security::Preferred | Security::Encrypted if authorities.is_some() => Err(OpenError::Url(
                "sslrootcert is for sslmode=verify-full; say that, or leave sslrootcert out".into(),
            )),
            security => Ok(security),
        }
    }
}

/// What is done for a connection's security.
enum Security {
    None,
    Preferred,
    Encrypted,
    /// Encrypted, with the proof of who answers: by the authorities in a file, or by those of the system.
    Proven(Option<PathBuf>),
}

impl Security {
    const fn mode(&self) -> SslMode {
        match self {
            Self::None => SslMode::Disable,
            Self::Preferred => SslMode::Prefer,
            Self::Encrypted | Self::Proven(_) => SslMode::Require,
        }
    }

    fn client(&self) -> Result<ClientConfig, OpenError> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::None | Self::Preferred | Self::Encrypted => {
                Arc::new(Anybody(provider.signature_verification_algorithms))
            }
            Self::Proven(None) => Arc::new(
                rustls_platform_verifier::Verifier::new(Arc::clone(&provider))
                    .map_err(|error| OpenError::Url(format!("the system names no authorities: {error}")))?,
            ),
            Self::Proven(Some(file)) => by_authorities(file, &provider)?,
        };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| OpenError::Url(format!("TLS cannot be set up: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // Needed for sslnegotiation=direct, and sent by libpq in any case.
        client.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(client)
    }
}

/// There is no TLS on a socket, and nothing to protect.
fn on_these_hosts(security: Security, postgres: &tokio_postgres::Config) -> Result<Security, OpenError> {
    // Addresses, where they are given, are what is connected to.
    let is_socket = |host: &&Host| matches!(host, Host::Unix(_)) && postgres.get_hostaddrs().is_empty();
    let hosts = postgres.get_hosts();
    let sockets = hosts.iter().filter(is_socket).count();
    match security {
        _ if sockets > 0 && sockets == hosts.len() => Ok(Security::None),
        Security::Encrypted | Security::Proven(_) if sockets > 0 => Err(OpenError::Url(
            "sslmode asks for TLS, which a unix socket does not have; name sockets or hosts, and not both"
                .into(),
        )),
        security => Ok(security),
    }
}

fn by_authorities(
    file: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, OpenError> {
    let unusable = |why: &str| {
        OpenError::Url(format!(
            "sslrootcert: the file {} cannot be used: {why}",
            file.display()
        ))
    };
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| match error {
            pem::Error::Io(error) => unusable(&error.to_string()),
            _ => unusable("it is not valid PEM"),
        })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| unusable(&error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it"));
    }
    WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
        .build()
        .map_err(|error| unusable(&error.to_string()))
}

/// Takes any certificate, but only from whoever has its key: channel binding proves nothing otherwise.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
