//! Against a server of the test's own, with certificates that are made for it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use adjutant_postgres_fixture::Cluster;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use tempfile::TempDir;

use super::{Config, Said, Security, connect};
use crate::postgres::Postgres;

/// Why a URL is refused when it is read.
fn unread(url: &str) -> String {
    Config::read(url).map(drop).expect_err(url).to_string()
}

#[test]
fn a_url_that_asks_for_what_is_not_done_is_refused_with_the_name_of_the_parameter() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("a file");
    fs::write(&text, "not PEM at all").unwrap();
    let text = text.to_str().unwrap().replace(' ', "%20");
    for (query, expected) in [
        (
            "sslmode=verify-ca",
            "sslmode=verify-ca is not supported; say sslmode=verify-full",
        ),
        (
            "sslmode=allow",
            "sslmode=`allow` is not supported; say disable, prefer, require or verify-full",
        ),
        ("sslrootcert=/x", "sslrootcert is for sslmode=verify-full"),
        (
            "sslmode=require&sslrootcert=/x",
            "sslrootcert is for sslmode=verify-full",
        ),
        (
            "sslmode=verify-full&sslrootcert=/no/such/file",
            "sslrootcert: the file /no/such/file cannot be used: No such file",
        ),
        (
            &format!("sslrootcert={text}&sslmode=verify-full"),
            "a file cannot be used: there is no certificate in it",
        ),
        ("sslmode=%ff", "`sslmode` in the URL is not UTF-8"),
        ("sslkey=x&sslmode=require", "unknown option `sslkey`"),
    ] {
        let error = unread(&format!("postgres://adjutant:geheim@db/x?{query}"));
        assert!(error.contains(expected), "{query}: {error}");
        assert!(!error.contains("geheim") && !error.contains('\n'), "{error}");
    }
    let mixed = unread("postgres://%2Ftmp,db/x?sslmode=require");
    assert!(mixed.contains("name sockets or hosts, and not both"), "{mixed}");
}

#[test]
fn a_url_with_parameters_of_tls_is_otherwise_read_as_before() {
    use tokio_postgres::config::SslMode::{Disable, Prefer, Require};
    for (url, mode) in [
        ("postgres://a:g?h@db/x", Prefer),
        ("postgres://a:g?h@db/x?sslmode=", Prefer),
        ("postgres://a:g?h@db/x?sslmode=disable", Disable),
        ("postgres://a:g?h@db/x?sslmode=require&connect_timeout=3", Require),
        ("postgres://a:g?h@db/x?sslmode=disable&sslrootcert=/x", Disable),
        ("postgres://a:g?h@/x?hostaddr=127.0.0.1", Prefer),
        // There is nobody on the way to a socket.
        ("postgres://a:g?h@%2Ftmp/x?sslmode=verify-full", Disable),
        ("postgres://a:g?h@/x?host=/tmp", Disable),
    ] {
        let config = Config::read(url)
            .map_err(|error| error.to_string())
            .expect(url)
            .postgres;
        assert_eq!(config.get_ssl_mode(), mode, "{url}");
        assert_eq!(
            (config.get_user(), config.get_password(), config.get_dbname()),
            (Some("a"), Some(b"g?h".as_slice()), Some("x")),
            "{url}"
        );
        assert_eq!(config.get_hosts().len(), 1, "{url}");
    }
}

#[test]
fn a_url_without_a_host_means_this_machine() {
    let config = Config::read("postgres:///copy").expect("it is read");
    let places = ["/var/run/postgresql", "/tmp", "localhost"].map(|place| format!("`copy` on {place}"));
    assert!(places.contains(&config.place()), "{}", config.place());
}

#[test]
fn the_authorities_of_the_system_are_a_reason_to_verify() {
    for query in [
        "sslmode=verify-full",
        "sslrootcert=system",
        "sslmode=verify-full&sslrootcert=system",
    ] {
        // Without reading them: there may be none.
        let said = Said::taken_from(&format!("postgres://db/x?{query}")).map(|(_, said)| said);
        let security = said.and_then(Said::security);
        assert!(matches!(security, Ok(Security::Proven(None))), "{query}");
    }
}

/// A server that listens on a port of this machine.
struct Server {
    cluster: Cluster,
    port: u16,
    /// For what its clients know.
    directory: TempDir,
}

impl Server {
    /// None where this machine has no PostgreSQL.
    fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        Some(Self {
            cluster: Cluster::own_on_port(port)?,
            port,
            directory: tempfile::tempdir().expect("there is room"),
        })
    }

    fn sql(&self, sql: &str) {
        self.cluster.sql("postgres", sql);
    }

    /// Puts a file into the server's directory, with the owner and the mode that it wants.
    fn put(&self, name: &str, text: &str) {
        self.sql(&format!(
            "COPY (SELECT unnest(string_to_array('{text}', E'\\n'))) TO PROGRAM 'umask 077; cat >{name}'"
        ));
    }

    /// Turns TLS on, with a certificate for `localhost` that an authority has signed. Gives the authority's.
    fn use_tls(&self) -> PathBuf {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&authority_key).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["localhost".to_owned()])
            .and_then(|of_server| of_server.signed_by(&key, &Issuer::new(params, authority_key)))
            .expect("a certificate");
        self.put("server.crt", &certificate.pem());
        self.put("server.key", &key.serialize_pem());
        self.sql("ALTER SYSTEM SET ssl = on");
        self.cluster.restart();
        let file = self.directory.path().join("authority.pem");
        fs::write(&file, authority.pem()).expect("there is room");
        file
    }

    fn url(&self, user: &str, host: &str, query: &str) -> String {
        format!("postgres://{user}@{host}:{}/postgres?{query}", self.port)
    }

    /// Connects; gives whether the server says that the connection is encrypted.
    fn is_encrypted(&self, user: &str, host: &str, query: &str) -> Result<bool, String> {
        let config = Config::read(&self.url(user, host, query)).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = connect(&config).await.map_err(|failure| failure.to_string())?;
            let ended = tokio::spawn(connection);
            let ask = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let row = client
                .query_one(ask, &[])
                .await
                .map_err(|error| error.to_string())?;
            drop(client);
            ended.await.expect("it ends").map_err(|error| error.to_string())?;
            Ok(row.get(0))
        })
    }

    #[track_caller]
    fn refuses(&self, host: &str, query: &str, expected: &str) {
        // What people see.
        let url = self.url("adjutant:geheim", host, query);
        let error = Postgres::open(&url)
            .map(drop)
            .expect_err("it is refused")
            .to_string();
        assert!(error.contains(expected), "{query}: {error}");
        assert!(!error.contains("geheim") && !error.contains('\n'), "{error}");
    }
}

fn proven_by(authority: &Path) -> String {
    format!("sslmode=verify-full&sslrootcert={}", authority.display())
}

#[test]
fn a_connection_is_as_secure_as_the_url_says() {
    let Some(server) = Server::start() else { return };
    let get = |host, query: &str| server.is_encrypted("adjutant", host, query);
    // Without TLS.
    for query in ["", "sslmode=prefer", "sslmode=disable"] {
        assert_eq!(get("127.0.0.1", query), Ok(false), "{query}");
    }
    server.refuses(
        "127.0.0.1",
        "sslmode=require",
        "it offers no TLS, which `sslmode` in the URL asks for",
    );

    // With TLS, and an authority that the system does not know.
    let authority = server.use_tls();
    assert_eq!(get("127.0.0.1", "sslmode=disable"), Ok(false));
    for query in ["", "sslmode=prefer", "sslmode=require"] {
        assert_eq!(get("127.0.0.1", query), Ok(true), "{query}");
    }
    assert_eq!(get("localhost", &proven_by(&authority)), Ok(true));
    // Where the system has no authorities at all, that is said instead.
    let system = if rustls_platform_verifier::Verifier::new(ring::default_provider().into()).is_ok() {
        "no authority that is trusted has signed its certificate"
    } else {
        "the system names no authorities"
    };
    server.refuses("localhost", "sslmode=verify-full", system);
    server.refuses(
        "127.0.0.1",
        &proven_by(&authority),
        "its certificate is for another host",
    );
    let opened = Postgres::open(&server.url("adjutant", "localhost", &proven_by(&authority)));
    drop(opened.expect("a whole server uses it"));

    // The password is bound to the connection; and one who must come without TLS may, unless the URL forbids it.
    server.sql("CREATE ROLE bound LOGIN PASSWORD 'geheim'; CREATE ROLE plain LOGIN");
    server.put(
        "pg_hba.conf",
        "local all all trust\n\
         hostnossl all plain 127.0.0.1/32 trust\n\
         hostssl all bound 127.0.0.1/32 scram-sha-256",
    );
    server.cluster.restart();
    let bound = server.is_encrypted(
        "bound:geheim",
        "127.0.0.1",
        "sslmode=require&channel_binding=require",
    );
    assert_eq!(bound, Ok(true));
    assert_eq!(server.is_encrypted("plain", "127.0.0.1", ""), Ok(false));
    let forbidden = server
        .is_encrypted("plain", "127.0.0.1", "sslmode=require")
        .unwrap_err();
    assert!(forbidden.contains("no pg_hba.conf entry"), "{forbidden}");
    let nowhere = server.is_encrypted("nobody", "127.0.0.1", "").unwrap_err();
    assert!(nowhere.contains("SSL encryption"), "{nowhere}");
}

#[test]
fn a_server_whose_tls_cannot_be_used_is_used_without_where_that_is_allowed() {
    let Some(server) = Server::start() else { return };
    server.use_tls();
    // rustls knows no TLS before 1.2.
    server.sql("ALTER SYSTEM SET ssl_min_protocol_version = 'TLSv1'");
    server.sql("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.1'");
    server.cluster.restart();
    assert_eq!(server.is_encrypted("adjutant", "127.0.0.1", ""), Ok(false));
    server.refuses("127.0.0.1", "sslmode=require", "TLS with it fails");
}
