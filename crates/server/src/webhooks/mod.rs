//! Webhooks: places that are told of events, with signed requests.
//!
//! ```text
//! keeper ── finds webhooks ──> courier, one for each ── reads on from the cursor, and what is due again
//!                                 ├─ parcel, one for each event that is under way ── POST ──> place
//!                                 └─ tells the engine how they went, many at a time
//! ```
//!
//! An event is delivered at least once: how it went is stored after it went, so that a crash repeats what was not stored
//! yet, under the same id. Where servers share a store one of them delivers for a webhook; when it stops the next takes
//! over within seconds, and when it is killed as soon as its lease is over.
//!
//! # Invariants
//! - The cursor that is told is behind every event that is still under way.
//! - What is under way and what waits to be told are bounded, whatever a place does.
//! - A place is asked at addresses that were judged after they were looked up, and nowhere else ([`crate::outward`]).
//!
//! # Not here
//! What is tried again, and when; who may deliver: the core.

mod courier;
mod parcel;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::courier::Courier;
pub(crate) use self::parcel::try_out;
pub(crate) use self::words::Signer;
use crate::app::App;

/// How often webhooks are looked at that may have been changed elsewhere. What changes here is seen at once.
const ROUND: Duration = Duration::from_secs(5);

/// Delivers for all webhooks, until the server is to stop.
pub(crate) async fn keep(app: App, leaving: CancellationToken) {
    let mut changes = app.webhooks_changed.subscribe();
    let mut couriers: HashMap<Arc<str>, JoinHandle<()>> = HashMap::new();
    while !leaving.is_cancelled() {
        match app.handle.query(|reader| reader.webhooks()).await {
            Ok(webhooks) => {
                couriers.retain(|_, running| !running.is_finished());
                for webhook in webhooks {
                    if webhook.disabled.is_some() || couriers.contains_key(&webhook.name) {
                        continue;
                    }
                    let name = Arc::clone(&webhook.name);
                    let courier = Courier::new(app.clone(), webhook);
                    couriers.insert(name, tokio::spawn(courier.run(leaving.clone())));
                }
            }
            Err(error) => tracing::warn!(%error, "webhooks could not be looked for"),
        }
        tokio::select! {
            () = leaving.cancelled() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(ROUND) => {}
        }
    }
    for (webhook, running) in couriers {
        if let Err(error) = running.await {
            tracing::error!(%webhook, %error, "the courier of a webhook broke");
        }
    }
}
