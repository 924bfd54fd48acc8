//! Requests that the server itself makes, to places that people named: agents that it speaks for, and webhooks.
//!
//! Whoever may name such a place could otherwise use the server to reach what only the server can: its own machine, its
//! network, the metadata service of its cloud. So a host is refused when one of its addresses is inside ([`locate`]), and
//! only at addresses that were judged is it spoken to, whatever its name means by then. Redirects are not followed,
//! proxies of the environment not asked, and of an answer no more is read than it may have ([`Client`]).
//!
//! # Not here
//! What is asked there, and for how long an address is used: `peers`, `webhooks`.

mod address;
mod client;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use adjutant_core::rejection::Rejection;
use reqwest::Url;

pub(crate) use self::client::{Client, Told};

/// The most characters of a URL.
const MAX_URL_CHARS: usize = 2_000;
/// The most addresses that are kept of a host.
const MAX_ADDRESSES: usize = 16;
/// A name that is not looked up by then has no address.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A URL of a place outside, as far as it can be judged without asking anybody.
pub(crate) fn parse_url(field: &str, text: &str) -> Result<Url, Rejection> {
    let wrong = |why: &str| Rejection::field(field, why);
    if text.chars().count() > MAX_URL_CHARS {
        return Err(wrong(&format!("must have at most {MAX_URL_CHARS} characters")));
    }
    let url = Url::parse(text).map_err(|error| wrong(&format!("is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not have a name or password in it"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must not have a query or fragment"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("has no host"));
    }
    Ok(url)
}

/// Looks the host of a URL up, and says where it is.
///
/// # Errors
/// When it has no address, or one that is inside while `private` does not allow that.
pub(crate) async fn locate(field: &str, url: &Url, private: bool) -> Result<Arc<[IpAddr]>, Rejection> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    // An IPv6 address stands in brackets in a URL, and nowhere else.
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = match name.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => look_up(name, port)
            .await
            .map_err(|why| Rejection::field(field, format!("`{host}` cannot be found: {why}")))?,
    };
    if !private {
        outside(&found).map_err(|why| Rejection::field(field, format!("`{host}` {why}")))?;
    }
    Ok(found.into())
}

/// Whether all of these are addresses of the public network.
fn outside(addresses: &[IpAddr]) -> Result<(), String> {
    let inside = addresses
        .iter()
        .find_map(|address| Some((address, address::inside(*address)?)));
    inside.map_or(Ok(()), |(address, why)| {
        Err(format!(
            "is at {address}, {why}: the server goes there only when started with --allow-private-peers"
        ))
    })
}

async fn look_up(name: &str, port: u16) -> Result<Vec<IpAddr>, String> {
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, port))).await;
    let mut addresses = Vec::new();
    for address in found
        .map_err(|_| format!("its name was not looked up within {} s", LOOKUP_TIMEOUT.as_secs()))?
        .map_err(|error| error.to_string())?
    {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    if addresses.is_empty() {
        return Err("it has no address".to_owned());
    }
    addresses.truncate(MAX_ADDRESSES);
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let rejection = parse_url("url", text).unwrap_err();
        assert_eq!(rejection.slug.code(), 422);
        rejection.message
    }

    #[test]
    fn only_plain_web_addresses_are_places() {
        for (text, why) in [
            ("", "not a URL"),
            ("peer.example", "not a URL"),
            ("ftp://peer.example", "must begin with https://"),
            ("file:///etc/passwd", "must begin with https://"),
            ("https://me@peer.example", "name or password"),
            ("https://me:pw@peer.example", "name or password"),
            ("https://peer.example/?a=b", "query or fragment"),
            ("https://peer.example/#x", "query or fragment"),
            ("https://", "not a URL"),
        ] {
            let message = refused(text);
            assert!(message.starts_with("url: "), "{message}");
            assert!(message.contains(why), "{text}: {message}");
        }
        refused(&format!("https://peer.example/{}", "x".repeat(2_000)));
        assert!(parse_url("url", "https://peer.example:8443/a2a").is_ok());
    }

    #[tokio::test]
    async fn what_is_inside_is_refused_unless_it_is_allowed() {
        for text in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://10.0.0.7",
            "http://[::ffff:192.168.0.1]/",
            // Other ways to write 127.0.0.1, which the parser of URLs knows.
            "http://2130706433/",
            "http://0x7f.1/",
        ] {
            let url = parse_url("url", text).unwrap();
            let rejection = locate("url", &url, false).await.unwrap_err();
            assert!(
                rejection.message.contains("--allow-private-peers"),
                "{}",
                rejection.message
            );
            assert!(!locate("url", &url, true).await.unwrap().is_empty());
        }
        let public = parse_url("url", "https://192.0.78.1/").unwrap();
        assert_eq!(locate("url", &public, false).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_told() {
        let url = parse_url("url", "http://no-such-host.invalid/").unwrap();
        let message = locate("url", &url, true).await.unwrap_err().message;
        assert!(
            message.starts_with("url: `no-such-host.invalid` cannot be found"),
            "{message}"
        );
    }
}
