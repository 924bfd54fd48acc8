//! A worker whose agent prints fifty megabytes needs no more memory than one whose agent prints five.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use adjutant_client::Client;
use adjutant_client::stub::Stub;
use adjutant_worker::{AdapterKind, Config, Silent};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Prints events of a kilobyte until there are so many megabytes, and a result.
const PLAY: &str = r#"cat > /dev/null
line=$(head -c 1000 /dev/zero | tr '\0' x)
yes "{\"type\":\"user\",\"message\":{\"content\":[{\"type\":\"tool_result\",\"content\":\"$line\"}]}}" |
    head -c "${1}000000"
echo; echo '{"type":"result","subtype":"success","result":"Done."}'"#;

/// The most memory that this process had so far, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Runs a task whose agent prints so many megabytes; gives its completion.
async fn run(megabytes: u32) -> Value {
    let mut stub = Stub::start().await;
    let client = Client::builder(&stub.url)
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let command = ["sh", "-c", PLAY, "sh", &megabytes.to_string()].map(str::to_owned);
    let mut config = Config::new("w", command.to_vec());
    config.adapter = Some(AdapterKind::Claude);
    config.deregister = false;
    let shutdown = CancellationToken::new();
    let mut worker = tokio::spawn(adjutant_worker::run(
        client,
        config,
        shutdown.clone(),
        Arc::new(Silent),
    ));
    let mut waiting = Vec::new();
    let (mut offered, mut done) = (false, None);
    loop {
        let request = tokio::select! {
            ended = &mut worker => {
                ended.unwrap().unwrap();
                return done.expect("a completion before the end");
            }
            request = stub.next() => request,
        };
        let answer = |start: Value, done: Value| json!({"start": start, "stop": [], "done": done, "drain": false, "lease_ttl": 60});
        match request.path.as_str() {
            "/api/agents" => request.json(
                201,
                &json!({"id": "w", "name": "w", "capabilities": [], "models": [], "status": "available",
                    "last_heartbeat": "2026-11-24T10:00:00Z", "current_load": 0, "max_load": 1, "paused_until": null,
                    "metadata": null, "registered_at": "2026-11-24T10:00:00Z"}),
            ),
            "/api/agents/w/sync" if !offered => {
                offered = true;
                let task = json!({"id": "t", "title": "t", "status": "in_progress"});
                let start = json!([{"task": task, "attempt": 1, "lease_expires_at": "2026-11-24T10:00:00Z"}]);
                request.json(200, &answer(start, json!([])));
            }
            "/api/agents/w/sync" => match request.body["done"].get(0).cloned() {
                Some(completion) => {
                    done = Some(completion);
                    request.json(200, &answer(json!([]), json!([{"status": 200}])));
                    shutdown.cancel();
                }
                None if done.is_some() => request.json(200, &answer(json!([]), json!([]))),
                // It is given up when the attempt ends; to drop it would be to hang up.
                None => waiting.push(request),
            },
            _ => request.json(200, &json!({})),
        }
    }
}

#[tokio::test]
async fn fifty_megabytes_of_events_need_no_more_memory_than_five() {
    assert_eq!(run(5).await["output"], json!("Done."));
    let before = peak_kib();
    let done = run(50).await;
    let after = peak_kib();
    println!("peak after 5 MB: {before} KiB, after 50 MB: {after} KiB");
    assert_eq!(
        (&done["success"], &done["output"]),
        (&json!(true), &json!("Done."))
    );
    assert!(after - before < 8 * 1024, "from {before} KiB to {after} KiB");
}
