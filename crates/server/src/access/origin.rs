//! Whom a request is addressed to, and which page sent it: what keeps hostile web pages out.
//!
//! A page that rebinds its own name to this machine shows in `Host`; a page of another site shows in `Origin`. Both
//! are refused before anything else is looked at, whatever token comes along.

use std::net::IpAddr;

use adjutant_core::rejection::{Rejection, Slug};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::config::Config;

/// Names of this machine that no other machine can take.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The names that requests may be addressed to.
#[derive(Debug)]
pub(crate) struct Origins {
    /// Lower case, without ports and brackets.
    hosts: Vec<String>,
    /// Listening everywhere, so that every IP address may be ours. A rebound name is never an IP address.
    any_address: bool,
    /// Scheme and authority of the public URL.
    public: Option<(String, Authority)>,
}

impl Origins {
    /// The names that a configuration admits.
    ///
    /// # Errors
    /// When the public URL is not `http(s)://HOST[:PORT]`.
    pub(crate) fn new(config: &Config) -> Result<Self, String> {
        let public = config.public_url.as_deref().map(public_origin).transpose()?;
        let mut hosts: Vec<String> = LOOPBACK.map(str::to_owned).to_vec();
        hosts.extend(config.listen_names.iter().map(|name| plain(name)));
        hosts.extend(public.iter().map(|(_, authority)| plain(authority.host())));
        let any_address = config.listen_names.iter().any(|name| {
            plain(name)
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_unspecified())
        });
        Ok(Self {
            hosts,
            any_address,
            public,
        })
    }

    /// Refuses what is not addressed to this server, or was sent by a page of another site. All that a request says
    /// about either must be right, however often it says it.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Rejection> {
        let named = header_authority(headers)?;
        let Some(host) = uri.authority().cloned().or_else(|| named.clone()) else {
            return Err(Rejection::new(Slug::BadRequest, "the request has no Host header"));
        };
        for name in [Some(&host), named.as_ref()].into_iter().flatten() {
            if !self.is_ours(name.host()) {
                return Err(foreign(
                    format!("`{}` is not a name of this server", name.host()),
                    "if it should be, start the server with --public-url",
                ));
            }
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            if !self.is_same_site(origin, &host) {
                return Err(foreign(
                    format!("requests of pages from `{origin}` are refused"),
                    "only pages of this server may use it",
                ));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = plain(host);
        self.hosts.contains(&host) || (self.any_address && host.parse::<IpAddr>().is_ok())
    }

    fn is_same_site(&self, origin: &str, host: &Authority) -> bool {
        let Some((scheme, authority)) = split_origin(origin) else {
            return false;
        };
        let same = |scheme_of_host: &str, host: &Authority| {
            plain(authority.host()) == plain(host.host())
                && port(&scheme, &authority) == port(scheme_of_host, host)
        };
        // Whether TLS ends in front of this server cannot be seen here, so the host counts for either scheme.
        same(&scheme, host)
            || self
                .public
                .as_ref()
                .is_some_and(|(own, authority)| *own == scheme && same(own, authority))
    }
}

fn foreign(message: String, details: &str) -> Rejection {
    Rejection::new(Slug::ForeignOrigin, message).with_details(details)
}

/// Lower case, and without the brackets of an IPv6 address.
fn plain(host: &str) -> String {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase()
}

fn port(scheme: &str, authority: &Authority) -> u16 {
    authority
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 })
}

fn header_authority(headers: &HeaderMap) -> Result<Option<Authority>, Rejection> {
    let mut values = headers.get_all(HOST).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let authority: Option<Authority> = value.to_str().ok().and_then(|text| text.parse().ok());
    match authority {
        Some(authority) if values.next().is_none() && !authority.as_str().contains('@') => {
            Ok(Some(authority))
        }
        _ => Err(Rejection::new(
            Slug::BadRequest,
            "the Host header is not one host",
        )),
    }
}

fn split_origin(origin: &str) -> Option<(String, Authority)> {
    let (scheme, authority) = origin.split_once("://")?;
    Some((scheme.to_ascii_lowercase(), authority.parse().ok()?))
}

fn public_origin(url: &str) -> Result<(String, Authority), String> {
    let wrong =
        || format!("`{url}` is not a URL that this server can be reached by: write https://HOST[:PORT]");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => Ok((scheme.to_owned(), authority.clone())),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(listen: &[&str], public: Option<&str>) -> Origins {
        Origins::new(&Config {
            listen_names: listen.iter().map(|name| (*name).to_owned()).collect(),
            public_url: public.map(str::to_owned),
            ..Config::default()
        })
        .unwrap()
    }

    fn answer(origins: &Origins, host: &str, origin: Option<&str>) -> Option<Slug> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let uri = Uri::from_static("/api/tasks");
        origins
            .check(&uri, &headers)
            .err()
            .map(|rejection| rejection.slug)
    }

    #[test]
    fn only_names_of_this_server_are_answered() {
        let foreign = Some(Slug::ForeignOrigin);
        let own = origins(&["10.0.0.5"], Some("https://adjutant.example.com"));
        for (host, expected) in [
            ("127.0.0.1:7717", None),
            ("LOCALHOST:7717", None),
            ("[::1]:7717", None),
            ("10.0.0.5:7717", None),
            ("adjutant.example.com", None),
            ("10.0.0.6:7717", foreign),
            ("evil.example.com:7717", foreign),
            ("127.0.0.1.evil.example.com", foreign),
            ("localhost.evil.example.com:7717", foreign),
            ("evil.example.com:127.0.0.1", foreign),
            ("2130706433", foreign),
            ("127.1", foreign),
            ("0.0.0.0:7717", foreign),
            ("[::ffff:127.0.0.1]:7717", foreign),
            ("evil@localhost:7717", Some(Slug::BadRequest)),
            ("localhost:7717, evil.example.com", Some(Slug::BadRequest)),
            ("", Some(Slug::BadRequest)),
            ("a b", Some(Slug::BadRequest)),
        ] {
            assert_eq!(answer(&own, host, None), expected, "{host}");
        }
        let everywhere = origins(&["0.0.0.0"], None);
        assert_eq!(answer(&everywhere, "192.168.1.9:80", None), None);
        assert_eq!(answer(&everywhere, "evil.example.com", None), foreign);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let own = origins(&[], Some("https://adjutant.example.com"));
        for (host, origin, admitted) in [
            ("127.0.0.1:7717", "http://127.0.0.1:7717", true),
            ("127.0.0.1:7717", "https://adjutant.example.com", true),
            ("adjutant.example.com", "https://adjutant.example.com:443", true),
            ("127.0.0.1:7717", "http://127.0.0.1:3000", false),
            ("127.0.0.1:7717", "http://localhost:7717", false),
            ("127.0.0.1:7717", "http://adjutant.example.com", false),
            ("127.0.0.1:7717", "https://evil.example.com", false),
            ("127.0.0.1:7717", "https://127.0.0.1:7717.evil.example.com", false),
            (
                "127.0.0.1:7717",
                "http://127.0.0.1:7717 https://evil.example.com",
                false,
            ),
            ("127.0.0.1:7717", "http://127.0.0.1", false),
            ("127.0.0.1:7717", "file://", false),
            ("127.0.0.1:7717", "chrome-extension://abcdef", false),
            ("127.0.0.1:7717", "http://[::1]:7717", false),
            ("localhost:7717", "http://LOCALHOST:7717", true),
            ("127.0.0.1:7717", "null", false),
            ("127.0.0.1:7717", "", false),
        ] {
            assert_eq!(
                answer(&own, host, Some(origin)).is_none(),
                admitted,
                "{host} {origin}"
            );
        }
    }

    #[test]
    fn a_request_to_nobody_is_refused_and_an_absolute_target_counts() {
        let own = origins(&[], None);
        let none = HeaderMap::new();
        let check = |uri: &'static str| own.check(&Uri::from_static(uri), &none).err().map(|no| no.slug);
        assert_eq!(check("/"), Some(Slug::BadRequest));
        assert_eq!(check("http://localhost:7717/"), None);
        assert_eq!(check("http://evil.example.com/"), Some(Slug::ForeignOrigin));
    }

    #[test]
    fn one_good_name_or_origin_does_not_make_up_for_a_bad_one() {
        let own = origins(&[], None);
        let check = |uri: &'static str, pairs: &[(http::HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(name, value.parse().unwrap());
            }
            own.check(&Uri::from_static(uri), &headers)
                .err()
                .map(|no| no.slug)
        };
        let (good, evil) = ((HOST, "localhost:7717"), (HOST, "evil.example.com"));
        assert_eq!(check("/", &[good.clone(), evil.clone()]), Some(Slug::BadRequest));
        assert_eq!(
            check("http://localhost:7717/", &[evil]),
            Some(Slug::ForeignOrigin)
        );
        let origins = [
            good,
            (ORIGIN, "http://localhost:7717"),
            (ORIGIN, "https://evil.example.com"),
        ];
        assert_eq!(check("/", &origins), Some(Slug::ForeignOrigin));
    }

    #[test]
    fn a_public_url_must_be_one() {
        for url in ["", "adjutant.example.com", "ftp://x", "https://"] {
            assert!(public_origin(url).is_err(), "{url}");
        }
    }
}
