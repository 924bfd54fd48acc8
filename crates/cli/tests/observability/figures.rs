//! `/metrics` as somebody reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::{Server, TOKEN};

/// What `Accept` says to get the format of `OpenMetrics`.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// The text, and its content type.
pub(crate) fn scrape(server: &Server, accept: &str) -> (String, String) {
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nAccept: {accept}\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let content_type = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "))
        .unwrap();
    (text.to_owned(), content_type.to_owned())
}

/// The figures by series.
#[derive(Debug)]
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub(crate) fn of(server: &Server) -> Self {
        let (text, _) = scrape(server, "*/*");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').unwrap();
                    (series.to_owned(), value.parse().unwrap())
                })
                .collect(),
        )
    }

    /// The figure of a series.
    #[track_caller]
    pub(crate) fn at(&self, series: &str) -> f64 {
        match self.0.get(series) {
            Some(value) => *value,
            None => panic!("no `{series}` in {:#?}", self.0),
        }
    }

    /// The names of all samples, without labels.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0
            .keys()
            .map(|series| series.split('{').next().unwrap().to_owned())
            .collect()
    }
}
