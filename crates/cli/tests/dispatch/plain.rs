//! A task API as small as they come: no numbers of attempts, no leases, no idempotency, no slugs, no other fields.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

type Tasks = Arc<Mutex<BTreeMap<String, Value>>>;

/// The API. Its thread ends with the test program.
pub(crate) struct PlainApi {
    pub(crate) url: String,
    tasks: Tasks,
}

impl PlainApi {
    pub(crate) fn start(ids: &[&str]) -> Self {
        let tasks = ids.iter().map(|id| {
            let task = json!({
                "id": id, "title": "work", "status": "pending", "labels": ["work"],
                "created_at": "2026-01-01T00:00:00Z",
            });
            ((*id).to_owned(), task)
        });
        let tasks = Arc::new(Mutex::new(tasks.collect()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::clone(&tasks);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tasks = Arc::clone(&served);
                // A client that goes away in the middle is nothing to speak of.
                thread::spawn(move || serve(&stream, &tasks));
            }
        });
        Self { url, tasks }
    }

    pub(crate) fn task(&self, id: &str) -> Value {
        self.tasks.lock().unwrap()[id].clone()
    }

    /// Somebody else takes a task, but the list does not show it yet.
    pub(crate) fn is_taken_unseen(&self, id: &str) {
        self.tasks.lock().unwrap().get_mut(id).unwrap()["unseen"] = json!(true);
    }
}

fn serve(mut stream: &TcpStream, tasks: &Tasks) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut words = first.split_whitespace();
        let (status, answer) = answer(words.next()?, words.next()?, &body, &mut tasks.lock().unwrap());
        let text = answer.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .ok()?;
    }
}

fn answer(method: &str, path: &str, body: &Value, tasks: &mut BTreeMap<String, Value>) -> (u16, Value) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = path.trim_start_matches("/api/tasks").split('/').skip(1).collect();
    let no = |code: u16, message: &str| (code, json!({ "code": code, "message": message }));
    let Some(id) = parts.first() else {
        let status = query.split('&').find_map(|pair| pair.strip_prefix("status="));
        let listed = tasks
            .values()
            .filter(|task| status.is_none_or(|status| task["status"] == status));
        return (200, listed.cloned().collect());
    };
    let id = id.replace("%20", " ").replace("%2F", "/");
    let Some(task) = tasks.get_mut(&id) else {
        return no(404, "no such task");
    };
    match (method, parts.get(1)) {
        ("GET", None) => {}
        ("PATCH", None) => {
            for (name, value) in body.as_object().into_iter().flatten() {
                if ["progress", "status"].contains(&name.as_str()) {
                    task[name] = value.clone();
                }
            }
        }
        ("POST", Some(&"claim")) => {
            if task["unseen"] == true || task["status"] != "pending" {
                return no(409, "task already claimed");
            }
            task["status"] = json!("in_progress");
            task["claimed_by"] = body["agent_id"].clone();
            return (200, json!({ "task": task, "message": "claimed" }));
        }
        ("POST", Some(&"complete")) => {
            if task["status"] != "in_progress" {
                return no(409, "not in progress");
            }
            let times = task["completions"].as_u64().unwrap_or(0);
            task["completions"] = json!(times + 1);
            task["status"] = json!(if body["success"] == true {
                "completed"
            } else {
                "failed"
            });
            task["result"] = body.clone();
            return (200, json!({ "task": task, "message": "completed" }));
        }
        _ => return no(404, "no such path"),
    }
    (200, task.clone())
}
