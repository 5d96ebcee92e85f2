//! A relay joins: one request, one reply, no certificate yet.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use picket_common::timestamp::Timestamp;
use picket_common::transport::{Connection, SendStream};
use picket_common::wire::join::{JoinReply, JoinRequest};
use picket_common::wire::{MAX_SMALL_FRAME, read_frame, write_frame};
use tokio::time::timeout;
use tracing::warn;

use super::Shared;
use super::close::Close;
use super::metrics::JoinResult;
use super::session::FIRST_FRAME_TIMEOUT;
use crate::fleet::JoinError;
use picket_common::wire::CloseCode;

/// Joins at once; one takes some milliseconds.
pub(super) const MAX_AT_ONCE: usize = 8;
/// Refused attempts that are looked at before the rate counts, and how often one more is.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(3);
/// How long the reply may take to arrive.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds how often a secret can be guessed and how much work guessing makes: a bucket that refused attempts empty. Good
/// tokens cost nothing, so that setting up a fleet is not slowed down. Guessing 128 bits is hopeless at any rate.
#[derive(Debug)]
pub(super) struct JoinLimiter {
    left: u32,
    refilled: Instant,
}

// === impl JoinLimiter ===

impl JoinLimiter {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: BURST, refilled: now }
    }

    /// Whether an attempt may be looked at now.
    fn permits(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.saturating_duration_since(self.refilled) >= REFILL {
            self.left += 1;
            self.refilled += REFILL;
        }
        if self.left == BURST {
            self.refilled = now;
        }
        self.left > 0
    }

    /// Notes that an attempt was refused.
    const fn refused(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

/// Serves a connection that came to join.
pub(super) async fn serve(shared: &Shared, connection: &Connection) -> Result<(), Close> {
    let Ok(_permit) = shared.joins.try_acquire() else {
        shared.intake.metrics.join(JoinResult::RateLimited);
        return Err(Close::new(CloseCode::Overloaded, "many relays are joining, try again in a few seconds"));
    };
    let unreadable = |problem: &str| Close::new(CloseCode::Protocol, format!("no request to join: {problem}"));
    let read = async {
        let (send, mut receive) = connection.accept().await.map_err(|error| unreadable(&error.to_string()))?;
        let request: JoinRequest =
            read_frame(&mut receive, MAX_SMALL_FRAME).await.map_err(|error| unreadable(&error.to_string()))?;
        Ok((send, request))
    };
    let (send, request) = timeout(FIRST_FRAME_TIMEOUT, read).await.map_err(|_| unreadable("it took too long"))??;
    let reply = answer(shared, &request).await?;
    send_reply(connection, send, &reply).await
}

async fn answer(shared: &Shared, request: &JoinRequest) -> Result<JoinReply, Close> {
    let limiter = || shared.join_limiter.lock().unwrap_or_else(PoisonError::into_inner);
    let metrics = &shared.intake.metrics;
    if !limiter().permits(Instant::now()) {
        metrics.join(JoinResult::RateLimited);
        return Err(Close::new(CloseCode::Overloaded, "too many failed attempts to join, try again in a minute"));
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Close::new(CloseCode::Internal, format!("the system's random source failed: {error}")))?;
    let lifetime = shared.intake.settings.borrow().relay_certificate_lifetime.get();
    match shared.intake.fleet.join(request, lifetime, Timestamp::now(), random).await {
        Ok(joined) => {
            metrics.join(JoinResult::Joined);
            Ok(JoinReply::Joined {
                relay_id: joined.relay_id,
                name: joined.name,
                certificate_pem: joined.certificate_pem,
                authority_pem: shared.intake.fleet.authorities().held().certificates_pem(),
                aggregators: shared.intake.addresses.clone(),
            })
        }
        Err(error) => {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            warn!(%error, source, hostname = %request.hostname.escape_debug(), "a relay was refused to join");
            metrics.join(match error {
                JoinError::Internal(_) => JoinResult::Failed,
                _ => JoinResult::Refused,
            });
            limiter().refused();
            Ok(JoinReply::Refused { detail: error.to_string() })
        }
    }
}

async fn send_reply(connection: &Connection, mut send: SendStream, reply: &JoinReply) -> Result<(), Close> {
    let lost = || Close::new(CloseCode::Done, "the reply did not arrive");
    write_frame(&mut send, reply, MAX_SMALL_FRAME).await.map_err(|_| lost())?;
    send.finish();
    // Closing the connection would throw away what has not arrived.
    tokio::select! {
        arrived = timeout(REPLY_TIMEOUT, send.arrived()) => arrived.map_err(|_| lost()),
        _ = connection.closed() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_attempts_are_limited_and_come_back_with_time() {
        let start = Instant::now();
        let mut limiter = JoinLimiter::new(start);
        for _ in 0..BURST {
            assert!(limiter.permits(start));
            limiter.refused();
        }
        assert!(!limiter.permits(start));
        assert!(limiter.permits(start + REFILL));
        limiter.refused();
        assert!(!limiter.permits(start + REFILL));
        assert!(limiter.permits(start + REFILL * 100));
        assert_eq!(limiter.left, BURST);
    }

    #[test]
    fn good_attempts_are_not_limited() {
        let start = Instant::now();
        let mut limiter = JoinLimiter::new(start);
        assert!((0..1000).all(|_| limiter.permits(start)));
    }
}
