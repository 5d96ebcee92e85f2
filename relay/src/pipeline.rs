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
//! - a refused request, and one whose client went away too early, is counted once for each of its items, here; what a stage drops from a request that is taken is noted by
//!   that stage ([`Dropped`]) and counted in the write that stores the rest; what is spooled is counted by the aggregator.

use std::sync::Arc;

use picket_common::envelope::Envelope;
use picket_common::ids::{EventId, ProjectId};
use picket_common::outcome::OutcomeCount;
use tokio::sync::Semaphore;
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

/// Blobs that are read, scrubbed and spooled at once; each takes some megabytes of memory on the way, and the disk, which they share,
/// is not faster with more.
const BLOBS_AT_ONCE: usize = 2;

/// The stages with what they need.
#[derive(Clone)]
pub struct Pipeline {
    limits: Arc<LimitsConfig>,
    rates: Rates,
    quotas: Quotas,
    spool: Spool,
    outcomes: Outcomes,
    random: Random,
    /// Turns of blobs on their way from staging into the spool.
    blob_turns: Arc<Semaphore>,
}

impl Pipeline {
    /// Puts the stages together.
    #[must_use]
    pub fn new(limits: LimitsConfig, quotas: Quotas, spool: Spool, outcomes: Outcomes, random: Random) -> Self {
        let rates = Rates::new(&limits.rates);
        let blob_turns = Arc::new(Semaphore::new(BLOBS_AT_ONCE));
        Self { limits: Arc::new(limits), rates, quotas, spool, outcomes, random, blob_turns }
    }

    /// The same stages with other limits; rates that did not change go on counting.
    #[must_use]
    pub fn with_limits(&self, limits: LimitsConfig) -> Self {
        let is_same = limits.rates == self.limits.rates;
        let rates = if is_same { self.rates.clone() } else { Rates::new(&limits.rates) };
        Self { limits: Arc::new(limits), rates, ..self.clone() }
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

    /// Whether the spool takes anything now, to be asked before a body is read. Not logged: while it can't write, the spool says so.
    ///
    /// # Errors
    /// What a request would be refused with.
    pub fn check_room(&self) -> Result<(), Refusal> {
        self.spool.check_room().map_err(refusal_of)
    }

    /// Whether a request waits for more than the spool on its way, so that its client may well be gone before it is stored. It is
    /// then taken in a task of its own: a crash reporter sends a dump once and does not wait for long.
    #[must_use]
    pub fn takes_long(envelope: &Envelope) -> bool {
        let is_detached = envelope.items().iter().any(|item| item.detached().is_some());
        is_detached || payload_bytes(envelope) > BLOCKING_ABOVE_BYTES
    }

    /// Takes a request through all stages. On `Ok` it is on disk, or had no items. If the future is dropped before it is done, the
    /// request is stored, or counted as dropped with the reason `client_gone`.
    ///
    /// # Errors
    /// The [`Refusal`] to answer with. Its items are counted then.
    pub async fn take(&self, accepted: Accepted) -> Result<Taken, Refusal> {
        if accepted.0.envelope.items().is_empty() {
            return Ok(Taken { event_id: accepted.0.envelope.event_id(), ..Taken::default() });
        }
        let tally = Tally::of(&accepted.0.envelope);
        let project_id = accepted.0.project.config.id;
        let mut pending = Pending { pipeline: self, project_id, tally, charge: None, stage: Stage::Waiting };
        let taken = self.prepare_and_append(accepted, &mut pending).await;
        if let Err(refusal) = &taken {
            pending.refuse(refusal);
        }
        taken
    }

    async fn prepare_and_append(&self, accepted: Accepted, pending: &mut Pending<'_>) -> Result<Taken, Refusal> {
        let project_id = accepted.0.project.config.id;
        let prepared = if payload_bytes(&accepted.0.envelope) <= BLOCKING_ABOVE_BYTES {
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
                pending.charge = prepared.charge;
                self.append(spoolable, counts.clone(), pending).await?;
                self.outcomes.show(&counts);
            }
            None => {
                pending.stage = Stage::Settled;
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
    async fn append(
        &self,
        spoolable: Spoolable,
        counts: Vec<OutcomeCount>,
        pending: &mut Pending<'_>,
    ) -> Result<(), Refusal> {
        let Spoolable { mut record, blobs } = spoolable;
        let bytes: u64 = blobs.iter().map(|blob| blob.payload.len()).sum();
        if bytes > 0 {
            self.spool.check_room_for(bytes).map_err(append_refusal)?;
        }
        for blob in blobs {
            // Never closed. What waits for its turn lies on disk.
            let _turn = self.blob_turns.acquire().await;
            let reference = blob::append(&self.spool, &record.header, blob, self.random).await.map_err(blob_refusal)?;
            record.header.blobs.push(reference);
        }
        let place = self.spool.place(&record).await.map_err(append_refusal)?;
        let stored = place.put(record, counts);
        pending.stage = Stage::Settled;
        stored.await.map_err(append_refusal)?;
        Ok(())
    }
}

/// A request on its way, with what is made good if its client goes away before the spool has it: the future that takes it is then
/// dropped at whatever it waits for, and the items would be in no count and charged all the same.
struct Pending<'a> {
    pipeline: &'a Pipeline,
    project_id: ProjectId,
    tally: Tally,
    /// What was charged for it, once that is known.
    charge: Option<Charge>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody but the future that takes it has it.
    Waiting,
    /// The spool has it, or it is counted.
    Settled,
}

impl Pending<'_> {
    fn refuse(&mut self, refusal: &Refusal) {
        self.stage = Stage::Settled;
        self.pipeline.give_back(self.charge.take().as_ref());
        self.pipeline.outcomes.refused(Some(self.project_id), &self.tally, refusal);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Waiting {
            self.refuse(&Refusal::unavailable("client_gone", "the client went away before its request was stored"));
        }
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

/// How many bytes of payload are in memory.
fn payload_bytes(envelope: &Envelope) -> usize {
    envelope.items().iter().map(|item| item.payload().len()).sum()
}

fn append_refusal(failure: AppendError) -> Refusal {
    if let AppendError::Failed(_) = failure {
        error!(%failure, "the spool failed to store a record");
    }
    refusal_of(failure)
}

fn refusal_of(failure: AppendError) -> Refusal {
    match failure {
        AppendError::Full => Refusal::SpoolFull,
        AppendError::TooLarge { .. } => Refusal::TooLarge { what: "envelope".into(), detail: failure.to_string() },
        AppendError::Closed => Refusal::unavailable("shutting_down", "the relay is shutting down"),
        AppendError::Failed(_) => {
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
