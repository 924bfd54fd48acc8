//! Failed sign-ins: how many tokens an address may try.
//!
//! Only tokens that are not known count, and only such requests are refused: many agents may share one address, and
//! one that holds a stale token must not lock the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use adjutant_core::rejection::{Rejection, Slug};
use adjutant_core::time::Span;

/// Failed sign-ins of one address in one window.
const MAX_FAILURES: u32 = 20;
/// The window in which they are counted.
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered; beyond that those of past windows are forgotten, then all.
const MAX_ADDRESSES: usize = 10_000;

/// Counts failed sign-ins by address.
#[derive(Default)]
pub(crate) struct SignIns {
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl SignIns {
    /// Whether `peer` has used up its failures.
    pub(crate) fn is_over(&self, peer: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures
            .get(&network(peer))
            .is_some_and(|(since, count)| *count >= MAX_FAILURES && now.duration_since(*since) < WINDOW)
    }

    /// Notes a failure of `peer`, and says how it is to be answered.
    pub(crate) fn failed(&self, peer: IpAddr, now: Instant) -> Rejection {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if failures.len() >= MAX_ADDRESSES {
                failures.clear();
            }
        }
        let (since, count) = failures.entry(network(peer)).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        if *count <= MAX_FAILURES {
            return Rejection::new(Slug::Unauthorized, "this token is not known");
        }
        let left = WINDOW.saturating_sub(now.duration_since(*since));
        let left = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        Rejection::new(
            Slug::TooManyAttempts,
            "too many unknown tokens were tried from this address",
        )
        .retry_after(Some(Span::from_millis(left)))
    }
}

/// What one party can be expected to own: an IPv4 address, or a /64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slugs(sign_ins: &SignIns, peer: &str, now: Instant, times: u32) -> Vec<Slug> {
        (0..times)
            .map(|_| sign_ins.failed(peer.parse().unwrap(), now).slug)
            .collect()
    }

    #[test]
    fn after_twenty_failures_in_a_minute_an_address_is_told_to_wait() {
        let (sign_ins, start) = (SignIns::default(), Instant::now());
        assert_eq!(slugs(&sign_ins, "10.0.0.1", start, 20), [Slug::Unauthorized; 20]);
        let rejection = sign_ins.failed("10.0.0.1".parse().unwrap(), start + Duration::from_secs(50));
        assert_eq!(rejection.slug, Slug::TooManyAttempts);
        assert_eq!(rejection.retry_after, Some(Span::from_secs(10)));
        assert_eq!(slugs(&sign_ins, "10.0.0.2", start, 1), [Slug::Unauthorized]);
        assert_eq!(
            slugs(&sign_ins, "10.0.0.1", start + WINDOW, 1),
            [Slug::Unauthorized]
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_party_and_the_memory_is_bounded() {
        let (sign_ins, now) = (SignIns::default(), Instant::now());
        slugs(&sign_ins, "2001:db8::1", now, 20);
        assert_eq!(slugs(&sign_ins, "2001:db8::2", now, 1), [Slug::TooManyAttempts]);
        for number in 0..30_000_u32 {
            sign_ins.failed(IpAddr::V4((0x0b00_0000 + number).into()), now);
        }
        assert!(sign_ins.failures.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
