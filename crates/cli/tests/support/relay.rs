//! An address that stays while servers behind it come and go.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::Server;

/// Passes connections on to a server. Its thread ends with the test program.
pub struct Relay {
    pub url: String,
    behind: Arc<Mutex<String>>,
}

impl Relay {
    /// One with nothing behind it: connections are closed at once.
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind = Arc::new(Mutex::new(String::new()));
        let current = Arc::clone(&behind);
        thread::spawn(move || {
            for client in listener.incoming() {
                let address = current.lock().unwrap().clone();
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(address)) {
                    pass(&client, &server);
                    pass(&server, &client);
                }
            }
        });
        Self { url, behind }
    }

    /// From now on connections go to this server.
    pub fn lead_to(&self, server: &Server) {
        let address = server.url.trim_start_matches("http://");
        address.clone_into(&mut self.behind.lock().unwrap());
    }
}

/// Passes on what one says to the other, until it ends.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        // A connection that breaks is what this is for.
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
}
