//! A parcel: one event on its way to one place.

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
        let id = words::id(&self.webhook, event.seq);
        self.post(&id, words::body(&event)).await
    }

    /// A client of the place where it is now. Whoever rules its name could lead the server inside once it is let in, so
    /// what is found is judged each time, and what was judged is where the request goes.
    async fn client(&self) -> Result<Client, String> {
        let mut way = self.way.lock().await;
        if let Some(known) = way.as_ref().filter(|known| known.until > Instant::now()) {
            return known.client.clone();
        }
        let client = self.find().await;
        let lasts = if client.is_ok() { FRESH } else { STALE };
        *way = Some(Way {
            client: client.clone(),
            until: Instant::now() + lasts,
        });
        client
    }

    async fn find(&self) -> Result<Client, String> {
        let config = &self.app.config;
        let private = config.allow_private_peers;
        let addresses = outward::locate("url", &self.url, private)
            .await
            .map_err(|rejection| rejection.message)?;
        Client::new(&self.url, &addresses, private, config.webhook_patience)
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
        words::outcome(client.send(request).await, wall())
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
