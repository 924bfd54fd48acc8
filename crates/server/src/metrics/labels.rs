//! Labels: what figures are told apart by.

use prometheus_client::encoding::EncodeLabelSet;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($label:ident: $type:ty),* })*) => {
        $($(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
        pub(super) struct $name {
            $(pub(super) $label: $type,)*
        })*
    };
}

labels! {
    ByStatus { status: &'static str }
    ByPriority { priority: &'static str }
    ByOutcome { outcome: &'static str }
    ByType { r#type: &'static str }
    ByKind { kind: &'static str }
    ByVersion { version: &'static str }
    /// The endpoint is the path of a route, with the names of its parts.
    ByRequest { method: &'static str, endpoint: String, class: &'static str }
}
