//! What answers requests, as a whole: replaced when the configuration is reloaded.
//!
//! Invariant: a request sees one configuration from its first byte to its answer: the one that was in force when it began.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;

use super::{Server, router};
use crate::config::{HttpConfig, LimitsConfig};

/// The handlers and what they need. Clones share them.
#[derive(Clone)]
pub struct Front {
    current: Arc<ArcSwap<Answering>>,
}

struct Answering {
    server: Arc<Server>,
    router: Router,
}

impl Answering {
    fn new(server: Arc<Server>) -> Self {
        Self { router: router(Arc::clone(&server)), server }
    }
}

// === impl Front ===

impl Front {
    /// Begins with one.
    #[must_use]
    pub fn new(server: Arc<Server>) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(Answering::new(server))) }
    }

    /// What the next request is answered by.
    pub fn router(&self) -> Router {
        self.current.load().router.clone()
    }

    /// Answers the next requests by other limits.
    pub fn reconfigure(&self, http: HttpConfig, limits: LimitsConfig) {
        let server = self.current.load().server.reconfigured(http, limits);
        self.current.store(Arc::new(Answering::new(Arc::new(server))));
    }
}
