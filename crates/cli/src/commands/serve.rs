//! `adjutant serve`: a server that stays.

use adjutant_server::Tls;
use clap::Args;

use crate::arguments::{Keeping, Logging};
use crate::configuration::Configuration;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::host::{Host, Settings};
use crate::output::say;
use crate::{logging, open_files, signals};

/// Run the server
///
/// Prints one line `listening on http://ADDR` (https:// with TLS) when it accepts requests and logs to stderr. SIGTERM and SIGINT end it
/// cleanly. The first start writes an admin token to adjutant.token beside the store. On a terminal it tells where to open the
/// dashboard.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  adjutant serve
  adjutant serve --listen 0.0.0.0:7717 --public-url https://adjutant.example.org
  adjutant serve --listen 0.0.0.0:443 --public-url https://adjutant.example.org --tls-cert a.crt --tls-key a.key
  adjutant serve --store sqlite:/var/lib/adjutant/adjutant.db --log-format json
  adjutant serve --keep-finished 30d --keep-events 90d")]
pub(crate) struct Arguments {
    /// Where to listen [env: ADJUTANT_LISTEN] [default: 127.0.0.1:7717]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// An agent that is silent for longer is offline [env: ADJUTANT_AGENT_TTL] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    agent_ttl: Option<String>,
    /// How long a claim by an agent that never registered lasts [env: ADJUTANT_CLAIM_LEASE] [default: 24h]
    #[arg(long, value_name = "DURATION")]
    claim_lease: Option<String>,
    /// Let agents with a url, and webhooks, be on this machine or in its network [env: ADJUTANT_ALLOW_PRIVATE_PEERS]
    #[arg(long)]
    allow_private_peers: bool,
    /// How long an agent with a url has for each answer [env: ADJUTANT_PEER_TIMEOUT] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    peer_timeout: Option<String>,
    /// The URL by which others reach the server [env: ADJUTANT_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Speak TLS: the certificate chain in PEM, the server's own first [env: ADJUTANT_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// The private key of the certificate in PEM [env: ADJUTANT_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP)
    /// [env: ADJUTANT_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Ask for no tokens; on loopback addresses only [env: ADJUTANT_OPEN]
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    logging: Logging,
    #[command(flatten)]
    keeping: Keeping,
}

/// Serves.
pub(crate) async fn run(arguments: &Arguments, context: &Context) -> Outcome {
    let configuration = &context.configuration;
    let settings = Settings {
        listen: configuration.listen(arguments.listen.as_ref(), None)?,
        store: configuration.store(None)?,
        open: configuration.open(arguments.open)?,
        public_url: configuration.public_url(arguments.public_url.as_ref()),
        tls: tls(arguments, configuration)?,
        agent_ttl: configuration.agent_ttl(arguments.agent_ttl.as_ref(), None)?,
        claim_lease: configuration.claim_lease(arguments.claim_lease.as_ref())?,
        allow_private_peers: configuration.allow_private_peers(arguments.allow_private_peers)?,
        peer_timeout: configuration.peer_timeout(arguments.peer_timeout.as_ref())?,
        retention: configuration.retention(&arguments.keeping)?,
        default_allowance: configuration.default_allowance().cloned(),
        admin_token: configuration.admin_token()?,
        guests: Vec::new(),
        traces: configuration.otlp_endpoint(arguments.otlp_endpoint.as_ref())?,
    };
    logging::start(configuration, &arguments.logging, "info", std::io::stderr)?;
    open_files::raise();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    // Watched from before the start: a signal that comes while the store is opened is not lost.
    let stop = signals::stop()?;
    let mut host = Host::start(settings).await?;
    host.tell_room();
    say(format!("listening on {scheme}://{}", host.address))?;
    host.invite(scheme).await;
    tokio::select! {
        signal = stop => {
            tracing::info!(signal, "stopping");
            host.stop().await
        }
        failure = host.failed() => Err(failure),
    }
}

/// The certificate and the key, where both are given.
fn tls(arguments: &Arguments, configuration: &Configuration) -> Outcome<Option<Tls>> {
    let (certificate, key) = (
        configuration.tls_cert(arguments.tls_cert.as_ref()),
        configuration.tls_key(arguments.tls_key.as_ref()),
    );
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Tls::read(&certificate, &key)
            .map(Some)
            .map_err(|error| Failure::usage(error.to_string())),
        (Some(_), None) => {
            Err(Failure::usage("tls_cert: TLS needs the private key as well")
                .hint("give it with --tls-key FILE"))
        }
        (None, Some(_)) => {
            Err(Failure::usage("tls_key: TLS needs the certificate as well")
                .hint("give it with --tls-cert FILE"))
        }
    }
}
