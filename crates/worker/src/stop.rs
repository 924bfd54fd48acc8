//! The word to stop: why an attempt has to end, and by when its command must be gone.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::observer::Cause;

/// What an attempt is told that has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    /// Why. The first cause stands.
    pub(crate) cause: Cause,
    /// When its command must be gone whatever grace it has: its task may start elsewhere then.
    pub(crate) gone_by: Option<Instant>,
}

impl Order {
    /// Ends with the usual grace.
    pub(crate) const fn because(cause: Cause) -> Self {
        Self { cause, gone_by: None }
    }
}

/// Hears the order of an attempt.
pub(crate) type Orders = watch::Receiver<Option<Order>>;

/// Waits for the order to stop.
pub(crate) async fn stopped(orders: &mut Orders) -> Cause {
    match orders.wait_for(Option::is_some).await {
        Ok(order) => order.map_or(Cause::Shutdown, |order| order.cause),
        // Whoever could stop it is gone, and with it whoever would report it.
        Err(_) => Cause::Shutdown,
    }
}

/// Ends when a command that was asked to end has had its time: its grace, or less where an order that came meanwhile
/// leaves it less.
pub(crate) async fn patience(orders: &mut Orders, grace_ends: Instant) {
    loop {
        let gone_by = orders.borrow_and_update().and_then(|order| order.gone_by);
        let kill_at = gone_by.map_or(grace_ends, |gone_by| gone_by.min(grace_ends));
        tokio::select! {
            () = sleep_until(kill_at) => return,
            Ok(()) = orders.changed() => {}
        }
    }
}
