//! A place that is told of events by webhooks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A message as it came.
#[derive(Clone)]
pub struct Message {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        &found.expect("the header is there").1
    }

    /// What it says of its event.
    pub fn data(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).expect("a body is JSON");
        body["data"].clone()
    }
}

/// A place that takes every message. Its threads end with the test program.
pub struct Place {
    pub url: String,
    came: Arc<Mutex<Vec<Message>>>,
}

impl Place {
    /// One on a port of its own.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let came = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&came);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                thread::spawn(move || take(&stream, &all));
            }
        });
        Self { url, came }
    }

    /// All that came so far.
    pub fn came(&self) -> Vec<Message> {
        self.came.lock().unwrap().clone()
    }
}

/// Takes messages until the other side is gone; whatever is wrong with it, the next connection is another.
fn take(stream: &TcpStream, all: &Mutex<Vec<Message>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length")?;
        let mut body = vec![0; length.1.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        all.lock().unwrap().push(Message { headers, body });
        (&*stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}
