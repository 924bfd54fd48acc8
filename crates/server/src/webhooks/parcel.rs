//! A parcel: one event on its way to one place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::command::DeliveryOutcome;
use adjutant_core::event::Event;
use adjutant_core::webhook::Webhook;
use adjutant_engine::clock::wall;
use http::header::CONTENT_TYPE;
use reqwest::{Method, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::words::{self, Signer};
use crate::app::App;
use crate::outward::{self, Client};

/// What was found of a name is used for so long: places of the cloud move all the time.
const FRESH: Duration = Duration::from_mins(1);
/// A name that could not be found is not looked up again before that, whatever is to be sent.
const STALE: Duration = Duration::from_secs(3);

/// How a place is reached; cheap to clone.
#[derive(Clone)]
pub(super) struct Carrier {
    app: App,
    url: Url,
    /// Shared, so that what is sent at a time looks up once.
    way: Arc<Mutex<Option<Way>>>,
    signer: Signer,
    webhook: Arc<Webhook>,
}

/// How the place was found.
struct Way {
    client: Result<Client, String>,
    /// Where the client goes.
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl Carrier {
    /// # Errors
    /// When the URL cannot be read.
    pub(super) fn new(app: &App, webhook: &Webhook) -> Result<Self, String> {
        let url = Url::parse(&webhook.url).map_err(|error| format!("its url: {error}"))?;
        Ok(Self {
            app: app.clone(),
            url,
            way: Arc::default(),
            signer: Signer::of(&app.secret, webhook),
            webhook: Arc::new(webhook.clone()),
        })
    }

    /// Brings an event there.
    pub(super) async fn bring(self, event: Event) -> DeliveryOutcome {
        let id = words::event_id(&self.webhook, &event);
        self.post(&id, words::body(&event)).await
    }

    /// A client of the place where it is now. Whoever rules its name could lead the server inside once it is let in, so
    /// what is found is judged each time, and what was judged is where the request goes.
    async fn client(&self) -> Result<Client, String> {
        let mut way = self.way.lock().await;
        if let Some(known) = way.as_ref().filter(|known| known.until > Instant::now()) {
            return known.client.clone();
        }
        let (client, addresses) = match self.find().await {
            Ok(addresses) => {
                // One that goes there already keeps its connections.
                let known = way.take().filter(|known| known.addresses == addresses);
                let client = known.map(|known| known.client).filter(Result::is_ok);
                let client = client.unwrap_or_else(|| self.client_of(&addresses));
                (client, addresses)
            }
            Err(why) => (Err(why), Vec::new()),
        };
        let lasts = if client.is_ok() { FRESH } else { STALE };
        *way = Some(Way {
            client: client.clone(),
            addresses,
            until: Instant::now() + lasts,
        });
        client
    }

    async fn find(&self) -> Result<Vec<IpAddr>, String> {
        let found = outward::locate("url", &self.url, self.app.config.allow_private_peers).await;
        let mut addresses = found.map_err(|rejection| rejection.message)?.to_vec();
        addresses.sort_unstable();
        Ok(addresses)
    }

    fn client_of(&self, addresses: &[IpAddr]) -> Result<Client, String> {
        let config = &self.app.config;
        Client::new(
            &self.url,
            addresses,
            config.allow_private_peers,
            config.webhook_patience,
        )
    }

    async fn post(&self, id: &str, body: String) -> DeliveryOutcome {
        let client = match self.client().await {
            Ok(client) => client,
            Err(why) => return words::outcome(Err(why), wall()),
        };
        let seconds = wall().as_micros() / adjutant_core::time::MICROS_PER_SECOND;
        let request = client
            .request(Method::POST, self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", self.signer.sign(id, seconds, &body))
            .body(body);
        words::outcome(client.send_for_head(request).await, wall())
    }
}

/// Sends something to a place that is no event, and says how that went.
pub(crate) async fn try_out(app: &App, webhook: &Webhook) -> (bool, String) {
    let carrier = match Carrier::new(app, webhook) {
        Ok(carrier) => carrier,
        Err(why) => return (false, why),
    };
    let now = wall();
    let id = words::id(webhook, format_args!("{}_{}", words::TEST, now.as_micros()));
    let outcome = carrier.post(&id, words::test_body(webhook, now)).await;
    (outcome == DeliveryOutcome::Delivered, words::in_words(&outcome))
}
