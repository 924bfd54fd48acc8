//! Webhooks of servers that share a database: one of them delivers, each event once, and the next goes on where it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use adjutant_postgres_fixture::shared;
use serde_json::json;

use crate::books;
use crate::servers::{Start, within};
use crate::support::api::Api;
use crate::support::place::Place;

/// Longer than the lease of a server that was killed.
const PATIENCE: Duration = Duration::from_mins(1);

/// How often each task was told of.
fn told(place: &Place) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for message in place.came() {
        let task = message.data()["task_id"].as_str().unwrap_or_default().to_owned();
        *told.entry(task).or_default() += 1;
    }
    told
}

/// Waits until all that was submitted is told of, and noted.
fn through(api: &Api, place: &Place, tasks: usize) {
    within(PATIENCE, "every task", || {
        (told(place).len() == tasks).then_some(())
    });
    let last = api
        .pages("/api/events")
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .max();
    within(PATIENCE, "a cursor at the end", || {
        (api.get("/api/webhooks/w")["cursor"].as_u64() >= last).then_some(())
    });
}

#[test]
fn one_of_several_servers_tells_each_event_once_and_the_next_goes_on() {
    let Some(cluster) = shared() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let start = Start::on(&database, &directory, "60s");
    let place = Place::new();
    let (mut servers, apis) = start.three();
    let webhook = json!({"name": "w", "url": place.url, "events": ["task_created"]});
    apis[0].done("/api/webhooks", &webhook);
    let mut tasks = 0;
    let mut submit = |apis: &[Api]| {
        for _ in 0..20 {
            for api in apis {
                api.submit(&format!("t{tasks}"));
                tasks += 1;
            }
        }
        tasks
    };

    let submitted = submit(&apis);
    through(&apis[1], &place, submitted);
    // Whichever of them delivers: two end in good order, one after the other, and nothing is told again.
    for left in [1, 0] {
        assert_eq!(servers.remove(left + 1).terminate(), 0);
        let submitted = submit(&apis[..=left]);
        through(&apis[0], &place, submitted);
    }
    let again: Vec<_> = told(&place)
        .into_iter()
        .filter(|(_, times)| *times != 1)
        .collect();
    assert_eq!(again, []);

    // The last one is killed while it delivers; another takes over when its lease is over.
    let submitted = submit(&apis[..1]);
    servers.remove(0).kill();
    let (next, api) = start.one();
    through(&api, &place, submitted);
    let deliveries = api.get("/api/webhooks/w/deliveries");
    assert_eq!(deliveries, json!([]));
    // The same event is the same message, however often it came.
    let mut ids: Vec<_> = place
        .came()
        .iter()
        .map(|message| message.header("webhook-id").to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), submitted);
    assert_eq!(next.terminate(), 0);
    books::check(&database);
}
