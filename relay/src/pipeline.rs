//! The way of a request through the relay, from parsed envelope to answer.
//!
//! ```text
//! Accepted ─limit▸ Limited ─normalise▸ Normalised ─filter▸ Filtered ─quota▸ Admitted ─scrub▸ Scrubbed ─▸ Record ─▸ spool
//! ```
//!
//! Invariants:
//! - each stage takes only the type that the stage before it made, so that none can be skipped;
//! - [`Pipeline::take`] returns `Ok` only after the record is on disk;
//! - quota is charged for what is taken: a request that is refused after it was charged has the charge given back;
//! - a refused request is counted once for each of its items, here; what a stage drops from a request that is taken is noted by
//!   that stage ([`Dropped`]) and counted in the write that stores the rest; what is spooled is counted by the aggregator.

use std::sync::Arc;

use picket_common::ids::EventId;
use picket_common::outcome::OutcomeCount;
use tracing::error;

use crate::blob::{self, BlobError};
use crate::config::LimitsConfig;
use crate::dropped::Dropped;
use crate::limit::rates::Rates;
use crate::outcome::Outcomes;
use crate::quota::charge::Charge;
use crate::quota::table::Quotas;
use crate::rate_limit::RateLimits;
use crate::refusal::Refusal;
use crate::scrub::Spoolable;
use crate::spool::{AppendError, Spool};
use crate::submission::{Accepted, Random, Taken};
use crate::tally::Tally;
use crate::{filter, limit, normalise, quota, scrub};

/// Above this many bytes of payload the stages run on the blocking pool: 1 MiB of JSON takes about 2 ms to check, which is
/// what an async thread may be kept for.
const BLOCKING_ABOVE_BYTES: usize = 1024 * 1024;

/// The stages with what they need.
#[derive(Clone)]
pub struct Pipeline {
    limits: Arc<LimitsConfig>,
    rates: Rates,
    quotas: Quotas,
    spool: Spool,
    outcomes: Outcomes,
    random: Random,
}

impl Pipeline {
    /// Puts the stages together.
    #[must_use]
    pub fn new(limits: LimitsConfig, quotas: Quotas, spool: Spool, outcomes: Outcomes, random: Random) -> Self {
        let rates = Rates::new(&limits.rates);
        Self { limits: Arc::new(limits), rates, quotas, spool, outcomes, random }
    }

    /// The rates that the HTTP layer asks before it reads a body.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The spool at its end.
    #[must_use]
    pub const fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Takes a request through all stages. On `Ok` it is on disk, or had no items.
    ///
    /// # Errors
    /// The [`Refusal`] to answer with. Its items are counted then.
    pub async fn take(&self, accepted: Accepted) -> Result<Taken, Refusal> {
        if accepted.0.envelope.items().is_empty() {
            return Ok(Taken { event_id: accepted.0.envelope.event_id(), ..Taken::default() });
        }
        let project_id = accepted.0.project.config.id;
        let tally = Tally::of(&accepted.0.envelope);
        let taken = self.prepare_and_append(accepted).await;
        if let Err(refusal) = &taken {
            self.outcomes.refused(Some(project_id), &tally, refusal);
        }
        taken
    }

    async fn prepare_and_append(&self, accepted: Accepted) -> Result<Taken, Refusal> {
        let project_id = accepted.0.project.config.id;
        let bytes: usize = accepted.0.envelope.items().iter().map(|item| item.payload().len()).sum();
        let prepared = if bytes <= BLOCKING_ABOVE_BYTES {
            self.prepare(accepted)?
        } else {
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.prepare(accepted)).await.map_err(|failure| {
                error!(%failure, "a pipeline stage ended unexpectedly");
                Refusal::unavailable("internal", "the relay failed to process the request")
            })??
        };
        let counts = self.outcomes.counts_of(Some(project_id), &prepared.dropped);
        match prepared.spoolable {
            Some(spoolable) => {
                let give_back = |_: &Refusal| self.give_back(prepared.charge.as_ref());
                self.append(spoolable, counts.clone()).await.inspect_err(give_back)?;
                self.outcomes.show(&counts);
            }
            None => {
                self.outcomes.count(counts);
                self.outcomes.settle().await;
            }
        }
        Ok(Taken { event_id: prepared.event_id, limits: prepared.limits })
    }

    /// The stages in order.
    fn prepare(&self, accepted: Accepted) -> Result<Prepared, Refusal> {
        let limited = limit::enforce(accepted, &self.limits)?;
        let texts = limited.texts();
        let mut normalised = normalise::normalise(limited, &texts, self.random)?;
        let mut dropped = normalised.take_dropped();
        let mut filtered = filter::apply(normalised);
        dropped.append(filtered.take_dropped());
        let mut admitted = quota::admit(filtered, &self.quotas, &self.rates);
        dropped.append(admitted.take_dropped());
        let (limits, charge) = (admitted.take_limits(), admitted.take_charge());
        let mut scrubbed = scrub::scrub(admitted).inspect_err(|_| self.give_back(charge.as_ref()))?;
        dropped.append(scrubbed.take_dropped());
        let event_id = scrubbed.event_id();
        Ok(Prepared { spoolable: scrubbed.into_spoolable(), event_id, dropped, limits, charge })
    }

    /// The request is refused, and will be charged when it comes again.
    fn give_back(&self, charge: Option<&Charge>) {
        if let Some(charge) = charge {
            charge.give_back(&self.quotas);
        }
    }

    /// Blobs first: the record that names them makes them count.
    async fn append(&self, spoolable: Spoolable, counts: Vec<OutcomeCount>) -> Result<(), Refusal> {
        let Spoolable { mut record, blobs } = spoolable;
        let bytes: u64 = blobs.iter().map(|blob| blob.payload.len()).sum();
        if bytes > 0 && !self.spool.has_room_for(bytes) {
            return Err(append_refusal(AppendError::Full));
        }
        for blob in blobs {
            let reference = blob::append(&self.spool, &record.header, blob, self.random).await.map_err(blob_refusal)?;
            record.header.blobs.push(reference);
        }
        self.spool.append_counted(record, counts).await.map_err(append_refusal)?;
        Ok(())
    }
}

/// A request that has been through all stages.
struct Prepared {
    /// What is spooled; nothing if no item is left.
    spoolable: Option<Spoolable>,
    /// What the client is told.
    event_id: Option<EventId>,
    /// What the stages dropped.
    dropped: Dropped,
    /// The limits that the request met.
    limits: RateLimits,
    /// What is given back if it can't be stored.
    charge: Option<Charge>,
}

fn append_refusal(failure: AppendError) -> Refusal {
    match failure {
        AppendError::Full => Refusal::SpoolFull,
        AppendError::TooLarge { .. } => Refusal::TooLarge { what: "envelope".into(), detail: failure.to_string() },
        AppendError::Closed => Refusal::unavailable("shutting_down", "the relay is shutting down"),
        AppendError::Failed(_) => {
            error!(%failure, "the spool failed to store a record");
            Refusal::unavailable("spool_failed", "the relay can't write to its disk at the moment")
        }
    }
}

fn blob_refusal(failure: BlobError) -> Refusal {
    match failure {
        BlobError::Spool(failure) => append_refusal(failure),
        failure => {
            error!(%failure, "a large payload could not be spooled");
            Refusal::unavailable("staging_failed", "the relay failed to read back a large payload")
        }
    }
}
