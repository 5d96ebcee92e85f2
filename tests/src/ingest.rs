//! Posting as an SDK does.

use std::net::SocketAddr;
use std::time::Duration;

use picket_common::ids::{ProjectId, PublicKey};

use crate::event::TestEvent;
use crate::http::{Answer, HttpClient, PATIENCE, Unanswered, request};
use crate::ledger::{Ledger, Outcome};

/// A project as its SDKs see it, at a relay.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The relay.
    pub relay: SocketAddr,
    /// The project.
    pub project: ProjectId,
    /// Its key.
    pub key: PublicKey,
}

impl Target {
    /// The DSN that names it.
    #[must_use]
    pub fn dsn(&self) -> String {
        format!("http://{}@{}/{}", self.key, self.relay, self.project)
    }

    /// The path that envelopes are posted to.
    #[must_use]
    pub fn envelope_path(&self) -> String {
        format!("/api/{}/envelope/", self.project)
    }

    /// The header that SDKs authenticate with.
    #[must_use]
    pub fn auth_header(&self) -> String {
        format!("Sentry sentry_version=7, sentry_client=picket-tests/1.0, sentry_key={}", self.key)
    }
}

/// One connection to a relay.
#[derive(Debug)]
pub struct Ingest {
    http: HttpClient,
    target: Target,
}

impl Ingest {
    /// Posts to `target`; connects when it must.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { http: HttpClient::new(), target }
    }

    /// Posts an event in an envelope.
    ///
    /// # Errors
    /// [`Unanswered`] if no answer comes within `within`.
    pub fn post_within(&self, event: &TestEvent, within: Duration) -> Result<Answer, Unanswered> {
        let auth = self.target.auth_header();
        let headers = [("x-sentry-auth", auth.as_str()), ("content-type", "application/x-sentry-envelope")];
        let path = self.target.envelope_path();
        self.http.send(request("POST", self.target.relay, &path, &headers, event.envelope()), within)
    }

    /// Posts an event and notes in the ledger how that ended.
    pub fn post_noted(&self, event: &TestEvent, ledger: &Ledger) -> Outcome {
        let outcome = match self.post_within(event, PATIENCE) {
            Ok(answer) if answer.status == 200 => Outcome::Accepted,
            Ok(_) | Err(_) => Outcome::Unknown,
        };
        ledger.note(event.id, outcome);
        outcome
    }

    /// Posts an event that must be accepted.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn post(&self, event: &TestEvent) {
        match self.post_within(event, PATIENCE) {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["id"], event.id.to_string(), "the answer has the event's id");
            }
            other => panic!("the relay did not accept an event: {other:?}"),
        }
    }
}
