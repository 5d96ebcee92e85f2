//! Sends a pool of bodies over a fixed number of keep-alive connections and records what came back.
//!
//! ```text
//!                     next ticket (atomic counter)
//!   pacer ──permits──▶ worker 1 ── own connection ──▶ server
//!   (open loop only)   worker 2 ── own connection ──▶
//! ```
//!
//! Ticket `i` is body `i`. In a *closed loop* a worker takes the next ticket as soon as it has its answer: the
//! server sets the pace, and the figure of interest is the rate. In an *open loop* ticket `i` is due `i / rate` seconds
//! after the start, whether or not the server is ready, and its latency runs **from that moment**: a server that stalls
//! for a second at 1000 requests/s shows a thousand late requests, not one (no coordinated omission).
//!
//! # Invariants
//! - A body is sent at most once. A request without an answer is counted as unanswered, never repeated, because the
//!   server may have taken it.
//! - `accepted + refused + unanswered + unsent` is the number of bodies.
//! - At most `connections` requests are under way; a run ends by itself at
//!   `duration_max + request_timeout` at the latest.

mod connection;
mod pacer;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::payload::{Body, Pool};
use crate::target::Target;
use connection::Connection;
pub use connection::ConnectionError;
use pacer::Pacer;
pub use report::{LatencySummary, Report, Summary};

/// Who sets the pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// The server: each connection waits for its answer, then sends the next.
    Closed,
    /// The clock: so many requests a second, ready or not.
    Open {
        /// Requests a second, above 0.
        rate: f64,
    },
}

/// How to send.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Who sets the pace.
    pub pace: Pace,
    /// Connections, each with one request under way at most. At least 1.
    pub connections: usize,
    /// No request is started after this time.
    pub duration_max: Duration,
    /// An answer that takes longer counts as none.
    pub request_timeout: Duration,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("the load plan has {0}; it must be above zero")]
    EmptyPlan(&'static str),
    /// The server was not reachable when the run began.
    #[error("cannot start the load: {0}")]
    Connect(#[from] ConnectionError),
    /// The pacing thread could not be started.
    #[error("cannot start the thread that paces the open loop: {0}")]
    Pacer(std::io::Error),
    /// A worker ended early.
    #[error("a load worker ended early ({0}); this is a bug in picket-bench")]
    Worker(#[from] tokio::task::JoinError),
}

/// Sends every body of `pool` to `target` and tells what came of it. All connections are open before the clock starts.
///
/// # Errors
/// [`LoadError`], before the first request; whatever a server does after that is part of the report.
pub async fn run(target: &Target, pool: Arc<Pool>, plan: &Plan) -> Result<Report, LoadError> {
    if plan.connections == 0 {
        return Err(LoadError::EmptyPlan("no connections"));
    }
    if matches!(plan.pace, Pace::Open { rate } if rate <= 0.0 || !rate.is_finite()) {
        return Err(LoadError::EmptyPlan("no rate"));
    }
    let count = pool.bodies.len();
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        connections.push(Connection::open(target).await?);
    }

    let started = Instant::now();
    let tickets = Arc::new(Tickets {
        pool,
        next: AtomicUsize::new(0),
        due: Semaphore::new(0),
        started,
        last_start: started + plan.duration_max,
        pace: plan.pace,
    });
    let pacer = match plan.pace {
        Pace::Closed => None,
        Pace::Open { .. } => Some(Pacer::start(Arc::clone(&tickets), plan.connections).map_err(LoadError::Pacer)?),
    };
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(work(connection, Arc::clone(&tickets), plan.request_timeout));
    }
    let mut report = Report::new(started);
    while let Some(part) = workers.join_next().await {
        report.merge(part?);
    }
    drop(pacer);
    report.close(count as u64);
    Ok(report)
}

/// What the workers of a run share.
struct Tickets {
    pool: Arc<Pool>,
    next: AtomicUsize,
    /// Open loop: one permit for each ticket that is due.
    due: Semaphore,
    started: Instant,
    last_start: Instant,
    pace: Pace,
}

/// A body and the moment from which its latency counts.
struct Ticket<'a> {
    body: &'a Body,
    intended: Instant,
}

// === impl Tickets ===

impl Tickets {
    /// When ticket `index` of an open loop is meant to leave.
    fn intended(&self, index: usize, rate: f64) -> Instant {
        self.started + Duration::from_secs_f64(index as f64 / rate)
    }

    /// Waits for the next ticket; none when all are taken or time is up.
    async fn take(&self) -> Option<Ticket<'_>> {
        if let Pace::Open { .. } = self.pace {
            // The semaphore is never closed, so the only answer is a permit.
            self.due.acquire().await.ok()?.forget();
        }
        let now = Instant::now();
        if now > self.last_start {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let body = self.pool.bodies.get(index)?;
        let intended = match self.pace {
            Pace::Closed => now,
            Pace::Open { rate } => self.intended(index, rate),
        };
        Some(Ticket { body, intended })
    }
}

async fn work(mut connection: Connection, tickets: Arc<Tickets>, request_timeout: Duration) -> Report {
    let mut report = Report::new(tickets.started);
    while let Some(ticket) = tickets.take().await {
        let answer = tokio::time::timeout(request_timeout, connection.send(ticket.body)).await;
        let latency = ticket.intended.elapsed();
        match answer {
            Ok(Ok(answer)) => report.record_answer(&answer, ticket.body, latency),
            Ok(Err(error)) => report.record_no_answer(&error.to_string(), latency),
            Err(_) => {
                report.record_no_answer("no answer within the request timeout", latency);
                connection.give_up();
            }
        }
    }
    report.reconnects = connection.reconnects();
    report
}

#[cfg(test)]
mod tests;
