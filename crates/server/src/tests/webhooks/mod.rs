//! Webhooks, told to places that do anything.

mod place;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adjutant_core::access::Actor;
use adjutant_core::command::{Command, DeliveryOutcome, DeliveryReport};
use adjutant_core::webhook::MAX_ATTEMPTS;
use adjutant_store::memory::Memory;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::place::{Does, Place};
use super::TestApp;
use crate::config::Config;
use crate::webhooks;

/// Longer than anything takes here.
const SOON: Duration = Duration::from_mins(2);

/// Of a server that goes anywhere, and waits for nobody long.
fn lax() -> Config {
    Config {
        allow_private_peers: true,
        webhook_patience: Duration::from_secs(3),
        ..Config::default()
    }
}

/// A server that delivers.
struct Post {
    app: TestApp,
    leaving: CancellationToken,
    keeping: JoinHandle<()>,
}

impl Post {
    async fn new() -> Self {
        Self::on(Memory::alone()).await
    }

    async fn on(store: Memory) -> Self {
        Self::with(store, lax()).await
    }

    async fn with(store: Memory, config: Config) -> Self {
        let app = TestApp::on(store, config).await;
        let leaving = CancellationToken::new();
        let keeping = tokio::spawn(webhooks::keep(app.app.clone(), leaving.clone()));
        Self {
            app,
            leaving,
            keeping,
        }
    }

    /// One with a webhook `w` at this place, told of new tasks.
    async fn to(place: &Place) -> Self {
        let post = Self::new().await;
        post.add(&place.url()).await;
        post
    }

    async fn add(&self, url: &str) -> Value {
        let webhook = json!({"name": "w", "url": url, "events": ["task_created"]});
        self.app.admin().post("/api/webhooks", webhook).await.good()
    }

    async fn submit(&self, id: &str) {
        let task = json!({"id": id, "title": "x"});
        self.app.admin().post("/api/tasks", task).await.good();
    }

    async fn webhook(&self) -> Value {
        self.app.admin().get("/api/webhooks/w").await.good()
    }

    async fn deliveries(&self) -> Vec<Value> {
        let listed = self.app.admin().get("/api/webhooks/w/deliveries").await.good();
        listed.as_array().unwrap().clone()
    }

    async fn ask(&self, path: &str) -> Value {
        let path = format!("/api/webhooks/w/{path}");
        self.app.admin().post_empty(&path).await.good()
    }

    /// The webhook, once it is as it should be.
    async fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(SOON, async {
            loop {
                let webhook = self.webhook().await;
                if is(&webhook) {
                    return webhook;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let Ok(webhook) = found.await else {
            panic!("it stays {}", self.webhook().await);
        };
        webhook
    }

    /// Waits until every event so far that is to be told is dealt with.
    async fn through(&self) -> Value {
        let events = self.app.admin().get("/api/events?limit=1000").await.good();
        let told = events.as_array().unwrap().iter();
        let last = told
            .filter(|event| event["type"] == "task_created")
            .filter_map(|event| event["seq"].as_u64())
            .max();
        self.until(|webhook| webhook["cursor"].as_u64() >= last).await
    }

    async fn stop(&mut self) {
        self.leaving.cancel();
        (&mut self.keeping).await.unwrap();
    }

    /// Stops to deliver, and begins anew.
    async fn restart(&mut self) {
        self.stop().await;
        self.go_on();
    }

    /// Delivers again, as the next server would.
    fn go_on(&mut self) {
        self.leaving = CancellationToken::new();
        self.keeping = tokio::spawn(webhooks::keep(self.app.app.clone(), self.leaving.clone()));
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

async fn eventually(what: &str, is: impl Fn() -> bool) {
    let found = tokio::time::timeout(SOON, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(found.await.is_ok(), "{what} does not come");
}

#[tokio::test]
async fn a_place_is_told_of_what_it_asked_for_and_can_verify_it() {
    let place = Place::new(|_, _| Does::Take).await;
    let post = Post::new().await;
    post.submit("early").await;
    let added = post.add(&place.url()).await;
    post.submit("x").await;
    let agent = json!({"id": "a", "capabilities": []});
    post.app.admin().post("/api/agents", agent).await.good();
    post.submit("y").await;
    eventually("both", || place.came().len() == 2).await;
    post.through().await;
    assert_eq!(place.tasks(), ["x", "y"]);
    let secret = added["secret"].as_str().unwrap();
    assert_eq!(post.webhook().await["secret"], Value::Null);
    for message in place.came() {
        assert!(message.is_signed_with(secret), "{message:?}");
        assert_eq!(message.body["type"], "task_created");
        assert_eq!(message.header("content-type"), "application/json");
        let seq = message.body["data"]["seq"].to_string();
        assert!(message.header("webhook-id").contains(&format!("_{seq}_")));
    }
    let listed = post.app.admin().get("/api/webhooks").await.good();
    assert_eq!(listed[0]["secret"], Value::Null);
    assert_eq!(post.deliveries().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_fails_is_kept_and_tried_again_under_the_same_id() {
    let place = Place::new(|_, before| {
        if before == 0 {
            Does::Refuse(503)
        } else {
            Does::Take
        }
    })
    .await;
    let post = Post::to(&place).await;
    post.submit("x").await;
    post.until(|webhook| webhook["pending"] == 1).await;
    let waiting = post.deliveries().await;
    assert_eq!(
        (&waiting[0]["status"], &waiting[0]["attempts"]),
        (&json!("pending"), &json!(1))
    );
    assert_eq!(waiting[0]["error"], "it answered 503 Service Unavailable");
    assert!(waiting[0]["due_at"].is_string());
    post.ask(&format!("deliveries/{}/retry", waiting[0]["seq"])).await;
    post.until(|webhook| webhook["pending"] == 0).await;
    let ids: Vec<_> = place
        .came()
        .iter()
        .map(|message| message.header("webhook-id").to_owned())
        .collect();
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
    let path = format!("/api/webhooks/w/deliveries/{}/retry", waiting[0]["seq"]);
    let refused = post.app.admin().post_empty(&path).await;
    refused.refused(404, "delivery_not_found");
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let place = Place::new(|message, _| {
        if message.task() == "x" {
            Does::Hang
        } else {
            Does::Take
        }
    })
    .await;
    let post = Post::to(&place).await;
    post.submit("x").await;
    for number in 0..30 {
        post.submit(&format!("y{number}")).await;
    }
    eventually("all", || place.came().len() == 31).await;
    let webhook = post.through().await;
    assert_eq!(webhook["pending"], 1);
    let error = post.deliveries().await[0]["error"].to_string();
    assert!(error.contains("did not answer within 3 s"), "{error}");
}

#[tokio::test]
async fn redirects_and_places_that_are_not_there_are_failures_and_a_flood_is_not_read() {
    let place = Place::new(|message, _| match message.task() {
        "there" => Does::Redirect,
        _ => Does::Flood,
    })
    .await;
    let post = Post::to(&place).await;
    post.submit("there").await;
    post.submit("much").await;
    eventually("what is answered by a flood", || {
        place.tasks().contains(&"much".to_owned())
    })
    .await;
    post.until(|webhook| webhook["pending"] == 1 && webhook["cursor"].as_u64() >= Some(2))
        .await;
    let error = post.deliveries().await[0]["error"].to_string();
    assert!(error.contains("redirects are not followed"), "{error}");
    drop(place);
    post.submit("nowhere").await;
    post.until(|webhook| webhook["pending"] == 2).await;
    let error = post.deliveries().await[1]["error"].to_string();
    assert!(error.contains("connection"), "{error}");
}

#[tokio::test]
async fn a_place_that_is_gone_is_left_alone_until_somebody_resumes() {
    let place = Place::new(|_, before| {
        if before == 0 {
            Does::Refuse(410)
        } else {
            Does::Take
        }
    })
    .await;
    let post = Post::to(&place).await;
    post.submit("x").await;
    let webhook = post.until(|webhook| webhook["status"] == "disabled").await;
    assert!(webhook["detail"].as_str().unwrap().contains("410"), "{webhook}");
    post.ask("resume").await;
    let webhook = post.through().await;
    assert_eq!(webhook["status"], "active");
    post.until(|webhook| webhook["pending"] == 0).await;
    assert_eq!(place.tasks(), ["x", "x"]);
}

#[tokio::test]
async fn dead_letters_are_listed_and_tried_again_one_by_one_or_together() {
    let app = TestApp::light().await;
    let admin = app.admin();
    let webhook = json!({"name": "w", "url": "https://192.0.78.1/"});
    admin.post("/api/webhooks", webhook).await.good();
    // A courier that has tried three events as often as it may.
    let (name, session): (Arc<str>, Arc<str>) = ("w".into(), "s".into());
    let lease = Command::LeaseWebhook {
        name: Arc::clone(&name),
        session: Arc::clone(&session),
        alone: true,
    };
    let failed = DeliveryOutcome::Failed {
        error: "it answered 500".into(),
        retry_after: None,
    };
    let tries = (1..=3).flat_map(|seq| (0..MAX_ATTEMPTS).map(move |_| seq));
    let report = Command::SettleDeliveries(DeliveryReport {
        name,
        session,
        cursor: 3,
        missed: 0,
        outcomes: tries.map(|seq| (seq, failed.clone())).collect(),
    });
    for command in [lease, report] {
        app.handle.call(Actor::admin(), command, None).await.unwrap();
    }
    let list = "/api/webhooks/w/deliveries";
    let dead = |seq: u64| json!({"seq": seq, "status": "dead", "attempts": MAX_ATTEMPTS, "due_at": null, "error": "it answered 500"});
    assert_eq!(admin.get(list).await.good(), json!([dead(1), dead(2), dead(3)]));
    let page = admin.get(&format!("{list}?since=1&limit=1")).await.good();
    assert_eq!(page, json!([dead(2)]));
    for query in ["limit=0", "limit=1001", "limit=x", "since=-1"] {
        let refused = admin.get(&format!("{list}?{query}")).await;
        refused.refused(422, "invalid_field");
    }
    let counts = |webhook: &Value| (webhook["pending"].as_u64(), webhook["dead"].as_u64());
    let one = admin.post_empty(&format!("{list}/2/retry")).await.good();
    assert_eq!(counts(&one), (Some(1), Some(2)));
    let all = admin.post_empty(&format!("{list}/retry")).await.good();
    assert_eq!(counts(&all), (Some(3), Some(0)));
    let waiting = admin.get(list).await.good();
    for delivery in waiting.as_array().unwrap() {
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("pending"), &json!(0))
        );
    }
}

#[tokio::test]
async fn what_was_told_before_a_restart_is_not_told_again() {
    let place = Place::new(|_, _| Does::Take).await;
    let mut post = Post::to(&place).await;
    for id in ["a", "b", "c"] {
        post.submit(id).await;
        post.through().await;
        post.restart().await;
    }
    post.stop().await;
    post.submit("d").await;
    post.go_on();
    post.through().await;
    assert_eq!(place.tasks(), ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn one_of_two_servers_delivers_and_the_other_goes_on() {
    let place = Place::new(|_, _| Does::Take).await;
    let store = Memory::shared();
    let mut first = Post::on(store.another()).await;
    let second = Post::on(store.another()).await;
    first.add(&place.url()).await;
    for number in 0..20 {
        first.submit(&format!("x{number}")).await;
    }
    first.through().await;
    first.stop().await;
    second.submit("y").await;
    second.through().await;
    let tasks = place.tasks();
    assert_eq!((tasks.len(), tasks[20].as_str()), (21, "y"), "{tasks:?}");
    assert_eq!(tasks.into_iter().collect::<BTreeSet<_>>().len(), 21);
}

#[tokio::test]
async fn where_a_place_is_is_judged_whenever_something_is_sent() {
    let place = Place::new(|_, _| Does::Take).await;
    let store = Memory::shared();
    // What one server was let to add, another is not let to go to; nor is one whose name leads elsewhere by now.
    let free = TestApp::on(store.another(), lax()).await;
    let webhook = json!({"name": "w", "url": place.url(), "events": ["task_created"]});
    free.admin().post("/api/webhooks", webhook).await.good();
    let strict = Post::with(store.another(), Config::default()).await;
    strict.submit("x").await;
    strict.until(|webhook| webhook["pending"] == 1).await;
    let error = strict.deliveries().await[0]["error"].to_string();
    assert!(
        error.contains("a loopback address") && error.contains("--allow-private-peers"),
        "{error}"
    );
    let told = strict.ask("test").await;
    assert_eq!(told["delivered"], false);
    assert!(place.came().is_empty());
}

#[tokio::test]
async fn a_thousand_deliveries_that_wait_are_all_made_few_at_a_time_and_hold_up_no_other_webhook() {
    const MANY: usize = 1_000;
    let is_open = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_open);
    let place = Place::new(move |_, _| {
        if seen.load(Ordering::Relaxed) {
            Does::Take
        } else {
            Does::Refuse(503)
        }
    })
    .await;
    let broken = Place::new(|_, _| Does::Hang).await;
    let well = Place::new(|_, _| Does::Take).await;
    let config = Config {
        // What is busy is not broken.
        webhook_patience: Duration::from_secs(10),
        ..lax()
    };
    let post = Post::with(Memory::alone(), config).await;
    post.add(&place.url()).await;
    for (name, url) in [("broken", broken.url()), ("well", well.url())] {
        let webhook = json!({"name": name, "url": url, "events": ["task_created"]});
        post.app.admin().post("/api/webhooks", webhook).await.good();
    }
    let batch: Vec<Value> = (0..MANY)
        .map(|number| json!({"id": format!("t{number}"), "title": "x"}))
        .collect();
    post.app
        .admin()
        .post("/api/batch/tasks", json!(batch))
        .await
        .good();
    // One that hangs and one that refuses are of no concern to the third.
    eventually("all at the one that takes", || well.came().len() >= MANY).await;
    let webhook = post.until(|webhook| webhook["pending"] == MANY).await;
    assert_eq!(webhook["status"], "stalled", "{webhook}");
    assert!(webhook["failing_since"].is_string(), "{webhook}");
    // What comes now waits in the log.
    post.submit("late").await;

    is_open.store(true, Ordering::Relaxed);
    let waiting: Vec<Value> = post
        .app
        .admin()
        .get("/api/webhooks/w/deliveries?limit=1000")
        .await
        .good()
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(waiting.len(), MANY);
    // One that arrives brings all others, whatever their time is.
    let path = format!("/api/webhooks/w/deliveries/{}/retry", waiting[0]["seq"]);
    post.app.admin().post_empty(&path).await;
    let webhook = post.until(|webhook| webhook["pending"] == 0).await;
    assert_eq!(
        (&webhook["dead"], &webhook["missed"], &webhook["failing_since"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    post.through().await;
    let taken: BTreeSet<String> = place.tasks().into_iter().collect();
    assert_eq!(taken.len(), MANY + 1);
    assert!(taken.contains("late"));
    eventually("the last", || well.came().len() > MANY).await;
    assert_eq!(well.came().len(), MANY + 1, "each is told once");
    for (name, place) in [("w", &place), ("well", &well), ("broken", &broken)] {
        assert!(place.most_at_once() <= 8, "{name}: {}", place.most_at_once());
    }
}

#[tokio::test]
async fn what_fails_when_its_place_is_back_is_tried_again_when_its_time_comes() {
    let is_open = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_open);
    let place = Place::new(move |message, _| {
        if seen.load(Ordering::Relaxed) && message.task() != "odd" {
            Does::Take
        } else {
            Does::Refuse(503)
        }
    })
    .await;
    let post = Post::to(&place).await;
    for id in ["odd", "even"] {
        post.submit(id).await;
    }
    post.until(|webhook| webhook["pending"] == 2).await;
    is_open.store(true, Ordering::Relaxed);
    let even = post.deliveries().await[1]["seq"].clone();
    post.ask(&format!("deliveries/{even}/retry")).await;
    post.until(|webhook| webhook["pending"] == 1).await;
    let odd = || place.tasks().iter().filter(|task| *task == "odd").count();
    // At first, before its time since the other was taken, and when its time has come.
    eventually("the third try", || odd() >= 3).await;
    assert_eq!(post.deliveries().await[0]["status"], "pending");
}

#[tokio::test]
async fn a_webhook_is_tried_out_without_an_event() {
    let place = Place::new(|_, _| Does::Take).await;
    let post = Post::new().await;
    let secret = post.add(&place.url()).await["secret"]
        .as_str()
        .unwrap()
        .to_owned();
    let told = post.ask("test").await;
    assert_eq!(told, json!({"delivered": true, "detail": "delivered"}));
    let message = &place.came()[0];
    assert_eq!(message.body["type"], "test");
    assert!(message.is_signed_with(&secret));
    drop(place);
    let told = post.ask("test").await;
    assert_eq!(told["delivered"], false);
}

#[tokio::test]
async fn a_webhook_that_is_removed_is_told_nothing_more_and_a_new_one_has_another_secret() {
    let place = Place::new(|_, _| Does::Take).await;
    let post = Post::new().await;
    let old = post.add(&place.url()).await;
    let webhook = json!({"name": "w", "url": place.url()});
    let refused = post.app.admin().post("/api/webhooks", webhook).await;
    refused.refused(409, "webhook_exists");
    post.submit("x").await;
    post.through().await;
    post.app.admin().delete("/api/webhooks/w").await.good();
    let refused = post.app.admin().get("/api/webhooks/w").await;
    refused.refused(404, "webhook_not_found");
    post.submit("y").await;
    let new = post.add(&place.url()).await;
    assert_ne!(old["secret"], new["secret"]);
    post.submit("z").await;
    eventually("the next", || place.tasks() == ["x", "z"]).await;
}

#[tokio::test]
async fn places_inside_and_webhooks_that_make_no_sense_are_refused_by_the_name_of_the_field() {
    let app = TestApp::light().await;
    for (webhook, field) in [
        (json!({"name": "w", "url": "http://127.0.0.1/"}), "url: "),
        (
            json!({"name": "w", "url": "http://169.254.169.254/latest"}),
            "url: ",
        ),
        (json!({"name": "w", "url": "ftp://192.0.78.1/"}), "url: "),
        (json!({"name": "w", "url": "https://192.0.78.1/?a=b"}), "url: "),
        (json!({"name": "", "url": "https://192.0.78.1/"}), "name: "),
        (json!({"name": "a b", "url": "https://192.0.78.1/"}), "name: "),
        (
            json!({"name": "w", "url": "https://192.0.78.1/", "events": ["task_created", "x"]}),
            "events[1]: ",
        ),
    ] {
        let message = app
            .admin()
            .post("/api/webhooks", webhook.clone())
            .await
            .refused(422, "invalid_field");
        assert!(message.starts_with(field), "{webhook}: {message}");
    }
    let listed = app.admin().get("/api/webhooks").await.good();
    assert_eq!(listed, json!([]));
    for path in ["a%00b", "no%20such", "none"] {
        let path = format!("/api/webhooks/{path}");
        app.admin().get(&path).await.refused(404, "webhook_not_found");
    }
    let path = "/api/webhooks/w/deliveries/x/retry";
    app.admin()
        .post_empty(path)
        .await
        .refused(404, "delivery_not_found");
}
