//! What pages need beside their markup; compiled in, so that they work offline.

/// A file that pages load.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Where pages look for it.
    pub path: &'static str,
    /// Its content type.
    pub content_type: &'static str,
    /// What is in it.
    pub text: &'static str,
}

/// The style sheet.
pub const STYLE: Asset = Asset {
    path: "/dashboard/style.css",
    content_type: "text/css; charset=utf-8",
    text: include_str!("../assets/style.css"),
};

/// What makes pages fresh and buttons work.
pub const SCRIPT: Asset = Asset {
    path: "/dashboard/dashboard.js",
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("../assets/dashboard.js"),
};

/// The icon.
pub const ICON: Asset = Asset {
    path: "/dashboard/icon.svg",
    content_type: "image/svg+xml",
    text: include_str!("../assets/icon.svg"),
};
