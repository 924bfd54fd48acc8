//! The end of a server with a full house: a thousand agents wait, and each is answered.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::{client, register};
use crate::support::{Server, TOKEN};

const AGENTS: usize = 1_000;
/// What people and service managers wait for without a thought.
const SOON: Duration = Duration::from_secs(5);

async fn wait_for_work(address: &str, agent: &str) -> TcpStream {
    let body = r#"{"running":[],"wait":20}"#;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /api/agents/{agent}/sync HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_agents_that_wait_are_all_answered_and_the_server_ends_in_time() {
    let server = Server::start();
    let address = server.url.trim_start_matches("http://").to_owned();
    let client = client(&server.url);
    let mut waiting = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        let agent = format!("agent-{number}");
        register(&client, &agent, 1).await;
        waiting.push(wait_for_work(&address, &agent).await);
    }
    // Every sync has arrived when each agent was heard of since it registered.
    while client
        .list_agents(None, &[])
        .await
        .unwrap()
        .iter()
        .any(|agent| agent.last_heartbeat <= agent.registered_at)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut byte = [0];
    for stream in &mut waiting {
        assert!(
            stream.try_read(&mut byte).is_err(),
            "an agent was answered before there was anything to say"
        );
    }
    let begin = Instant::now();
    let ended = tokio::task::spawn_blocking(move || server.terminate());
    for mut stream in waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(text.contains(r#""start":[]"#), "{text}");
    }
    assert_eq!(ended.await.unwrap(), 0);
    let took = begin.elapsed();
    eprintln!("{AGENTS} waiting agents were answered and the server ended in {took:?}");
    assert!(took < SOON, "{took:?}");
}
