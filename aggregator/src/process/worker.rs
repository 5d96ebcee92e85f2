//! The task that carries plans out, one after the other.

use std::sync::Arc;
use std::time::Duration;

use picket_common::failpoint::failpoint;
use picket_common::project_config::ConfigSnapshot;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::config::ProcessConfig;
use super::parts::{Cut, Parts};
use super::pipeline;
use super::plan::{self, InsertPlan};
use super::refused_outcomes;
use super::surroundings::{Installed, Surroundings};
use crate::database::{DatabaseError, TurnKind};
use crate::events::in_doubt::{finish_outcomes, insert_outcome_part, insert_part, insert_rows_in_doubt};
use crate::events::insert::{Block, insert};
use crate::events::tables::Tables as _;
use crate::events::{EventsError, RefusedRows};
use crate::journal::{
    CorruptEntry, EventKey, Finished, Journal, JournalEntry, JournalError, JournalRead, NewDeadLetter,
};

/// Most journal entries looked at for one plan. A busy relay seals hundreds of records into an entry, a quiet one a few.
const MAX_PLAN_ENTRIES: usize = 4096;
/// First pause after a failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// How long the plan under way may take to finish once the worker is told to stop: ClickHouse may hang.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why a plan could not be carried out; each is retried.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The journal can't be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The issues can't be found or made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// ClickHouse refuses or does not answer.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The pending plan is not readable.
    #[error("the pending insert plan in the journal can't be read: {0}")]
    Plan(#[from] serde_json::Error),
    /// A plan covers more entries than the journal has.
    #[error("the pending insert plan covers journal entries that are not there")]
    PlanOutOfRange,
    /// A worker thread was lost.
    #[error("a processing thread stopped unexpectedly: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What processing counts.
#[derive(Debug, Clone)]
pub struct ProcessMetrics {
    events: Counter,
    unreadable_records: Counter,
    failures: Counter,
    plan_seconds: Histogram,
}

impl ProcessMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            events: Counter::default(),
            unreadable_records: Counter::default(),
            failures: Counter::default(),
            plan_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 14)),
        };
        let prefix = registry.sub_registry_with_prefix("picket_aggregator_process");
        prefix.register("events_stored", "Events inserted into ClickHouse", metrics.events.clone());
        let help = "Records of acknowledged batches that could not be read";
        prefix.register("unreadable_records", help, metrics.unreadable_records.clone());
        prefix.register("failures", "Tries of an insert plan that failed and were repeated", metrics.failures.clone());
        let help = "Time from reading a plan's entries to its cursor";
        prefix.register_with_unit("plan", help, Unit::Seconds, metrics.plan_seconds.clone());
        metrics
    }
}

/// Carries plans out until it is told to stop.
#[derive(Debug)]
pub struct Worker<S = Installed> {
    /// Where batches come from.
    pub journal: Journal,
    /// Where events go, and whatever else it works with.
    pub surroundings: S,
    /// Which projects exist and how long they keep events.
    pub projects: watch::Receiver<Arc<ConfigSnapshot>>,
    /// Limits.
    pub config: ProcessConfig,
    /// What it counts.
    pub metrics: ProcessMetrics,
    /// Refusals since ClickHouse last took something; none at the start.
    pub refusals: Refusals,
}

/// How often ClickHouse may refuse a plan's block before the record at fault is searched for: a schema that is being changed, or a
/// server that is being upgraded, refuses for a moment.
const TRIES_OF_WHOLE: u32 = 3;
/// Most records that are set aside without one that goes in between: beyond it the fault is not the events', and the way stands
/// still, as it does for any other fault of the store.
const MAX_SET_ASIDE_IN_A_ROW: u32 = 100;

/// Refusals since ClickHouse last took something: of events and of the books apart, since the one says nothing of the other.
#[derive(Debug, Default)]
pub struct Refusals {
    events: Refused,
    outcomes: Refused,
}

/// Refusals of one of the two.
#[derive(Debug, Default)]
struct Refused {
    of_whole: u32,
    set_aside: u32,
}

/// A plan's block and what goes with it.
#[derive(Debug)]
struct Ready {
    block: Block,
    /// How many records its entries announce.
    records: u64,
    events: Vec<EventKey>,
    dead_letters: Vec<NewDeadLetter>,
    unreadable_records: u64,
}

/// Whether there was a pending plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// There was none.
    None,
    /// It is carried out.
    Finished,
}

/// Whether a plan's insert may have been tried before.
#[derive(Debug, Clone, Copy)]
enum Insert {
    First,
    InDoubt,
}

impl<S: Surroundings> Worker<S> {
    /// Runs until `stop`. A plan under way is finished first, if it ends within seconds; the rest stays in the journal.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut end = self.journal.subscribe();
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let stepped = tokio::select! {
                stepped = self.step(&mut end, &stop) => stepped,
                // Dropped where it stands, as by a kill: the plan is pending, and in doubt at the next start.
                () = out_of_patience(&stop) => {
                    warn!(patience = ?STOP_PATIENCE, "the plan under way does not end, leaving it for the next start");
                    break;
                }
            };
            match stepped {
                Ok(()) => pause = FIRST_PAUSE,
                Err(failure) => {
                    self.metrics.failures.inc();
                    error!(%failure, retry_in = ?pause, "processing stands still, events wait in the journal");
                    tokio::select! {
                        () = sleep_until(Instant::now() + pause) => {}
                        () = stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
        info!(waiting = self.journal.backlog().batches, "processing stopped");
    }

    /// Waits for entries and carries one plan out.
    async fn step(
        &mut self,
        end: &mut watch::Receiver<crate::journal::JournalPosition>,
        stop: &CancellationToken,
    ) -> Result<(), ProcessError> {
        if self.finish_pending().await? == Pending::Finished {
            return Ok(());
        }
        if self.journal.cursor() >= *end.borrow_and_update() {
            tokio::select! {
                _ = end.changed() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
        let read = self.gather(end, stop).await?;
        self.process(read).await
    }

    /// Carries out the plan that is pending, if there is one: it may have got anywhere before.
    ///
    /// # Errors
    /// [`ProcessError`]; the plan is pending still.
    pub async fn finish_pending(&mut self) -> Result<Pending, ProcessError> {
        let Some(pending) = self.blocking(|journal| journal.plan()).await? else { return Ok(Pending::None) };
        let pending = InsertPlan::from_bytes(&pending)?;
        info!(plan = %pending.id, "carrying out the plan that was pending");
        self.carry_out(pending, Insert::InDoubt).await?;
        Ok(Pending::Finished)
    }

    /// Plans some of what was read from the cursor on, and carries that out. No plan may be pending.
    ///
    /// # Errors
    /// [`ProcessError`]; a plan may be pending then.
    pub async fn process(&mut self, read: JournalRead) -> Result<(), ProcessError> {
        let plan_end = match plan::end_of(&read.entries, &self.config) {
            Some(plan_end) => plan_end,
            // Nothing but damaged entries: a plan too, which counts what is lost and steps over them.
            None if !read.corrupt.is_empty() => read.next,
            None => {
                if read.next > self.journal.cursor() {
                    self.blocking(move |journal| journal.finish_plan(read.next)).await?;
                }
                return Ok(());
            }
        };
        let projects = Arc::clone(&self.projects.borrow());
        let mut new = InsertPlan::new(
            self.surroundings.new_plan_id(),
            self.journal.cursor(),
            plan_end,
            &projects,
            self.surroundings.now(),
        );
        let planned = || read.entries.iter().filter(|entry| entry.position < plan_end);
        if planned().any(|entry| entry.is_replay) {
            // Rows of a dead letter may be stored in one table and not in the other: a part asks before it inserts.
            new.parts = Parts::begin(planned().map(|entry| entry.header.records()).sum());
        }
        let bytes = new.to_bytes();
        failpoint("process::before_plan");
        self.blocking(move |journal| journal.put_plan(&bytes)).await?;
        failpoint("process::after_plan_before_insert");
        self.carry_out(new, Insert::First).await
    }

    /// Reads what waits, and gives a small read the configured time to grow.
    async fn gather(
        &self,
        end: &mut watch::Receiver<crate::journal::JournalPosition>,
        stop: &CancellationToken,
    ) -> Result<JournalRead, ProcessError> {
        let deadline = Instant::now() + self.config.linger.get();
        loop {
            let read = self.read().await?;
            let is_full = read.entries.len() >= MAX_PLAN_ENTRIES || plan::is_full(&read.entries, &self.config);
            if is_full || stop.is_cancelled() {
                return Ok(read);
            }
            // Each further batch would mean reading all again, so the rest of the time is waited out at once.
            tokio::select! {
                more = timeout_at(deadline, end.changed()) => match more {
                    Ok(_) if Instant::now() < deadline => sleep_until(deadline).await,
                    _ => return Ok(read),
                },
                () = stop.cancelled() => return Ok(read),
            }
        }
    }

    /// Reads what waits, as much as a plan may hold.
    ///
    /// # Errors
    /// [`ProcessError::Journal`].
    pub async fn read(&self) -> Result<JournalRead, ProcessError> {
        // Compressed bytes are fewer than raw ones, so this reads at least as much as a plan may hold and no more.
        let max_bytes = self.config.max_insert_bytes.as_u64();
        self.blocking(move |journal| journal.read_from(journal.cursor(), MAX_PLAN_ENTRIES, max_bytes)).await
    }

    /// Carries a plan out from its entries to the cursor. The same plan gives the same block each time.
    async fn carry_out(&mut self, mut plan: InsertPlan, insert: Insert) -> Result<(), ProcessError> {
        let started = Instant::now();
        loop {
            let ready = self.ready(&plan).await?;
            match self.insert(&mut plan, &ready.block, insert).await {
                Ok(()) => return self.finish(&plan, ready, started).await,
                Err(ProcessError::Events(error)) => match error.refused_rows() {
                    Some(refused) => self.refused(&mut plan, &ready, refused, error).await?,
                    None => return Err(error.into()),
                },
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Makes the block of a plan.
    async fn ready(&mut self, plan: &InsertPlan) -> Result<Ready, ProcessError> {
        let (entries, damaged) = self.entries_of(plan).await?;
        let records = entries.iter().map(|entry| entry.header.records()).sum();
        let (threads, parts, origin) = (self.threads(), plan.parts.clone(), refused_outcomes::origin(&entries));
        let mut prepared = self.surroundings.blocking(move || pipeline::prepare(&entries, &parts, threads)).await?;
        let damaged_records = damaged.iter().map(|entry| entry.records).sum();
        prepared.dead_letters.extend(damaged.into_iter().map(pipeline::damaged));
        pipeline::count_lost(&mut prepared, damaged_records, plan);
        pipeline::drop_unknown_projects(&mut prepared, plan);
        let events = prepared.event_keys();
        let made_at = plan.made_at();
        let known = self.blocking(move |journal| journal.known_events(&events, made_at)).await?;
        pipeline::drop_duplicates(&mut prepared, &known);
        let events = prepared.event_keys();
        if prepared.unreadable_records > 0 {
            warn!(records = prepared.unreadable_records, plan = %plan.id, "records of acknowledged batches can't be read");
        }
        let unreadable_records = prepared.unreadable_records;
        let mut dead_letters = std::mem::take(&mut prepared.dead_letters);
        let issues = self.surroundings.assign(&prepared.claims()).await?;
        let block = pipeline::block(prepared, &issues, plan);
        dead_letters.extend(refused_outcomes::dead_letters(&block.outcomes, &plan.outcome_parts, origin));
        Ok(Ready { block, records, events, dead_letters, unreadable_records })
    }

    /// Inserts the block while no other node counts hours anew, or alone where this may have to.
    async fn insert(&mut self, plan: &mut InsertPlan, block: &Block, tried: Insert) -> Result<(), ProcessError> {
        let kind = match tried {
            Insert::First if plan.is_whole() => TurnKind::Shared,
            _ => TurnKind::Alone,
        };
        let turn = self.surroundings.insert_turn(kind).await?;
        self.insert_in_turn(plan, block, tried).await?;
        Ok(turn.end().await.map_err(DatabaseError::from)?)
    }

    /// Inserts the block: as a whole, or the parts that are open.
    async fn insert_in_turn(
        &mut self,
        plan: &mut InsertPlan,
        block: &Block,
        tried: Insert,
    ) -> Result<(), ProcessError> {
        let (tables, now) = (self.surroundings.tables(), self.surroundings.now());
        if plan.is_whole() && matches!(tried, Insert::First) {
            insert(tables, plan.id, block).await?;
            self.refusals = Refusals::default();
            return Ok(());
        }
        if plan.parts.is_empty() {
            insert_rows_in_doubt(tables, plan.id, block, now).await?;
            self.refusals.events = Refused::default();
        }
        while let Some(part) = plan.parts.first_open() {
            let inserted = insert_part(tables, plan.id, part.first..part.end, block, now).await?;
            if inserted > 0 {
                self.refusals.events = Refused::default();
            }
            plan.parts.stored();
        }
        // The books come last: they count what was set aside.
        if plan.outcome_parts.is_empty() {
            finish_outcomes(tables, plan.id, block, now).await?;
            self.refusals.outcomes = Refused::default();
        }
        while let Some(part) = plan.outcome_parts.first_open() {
            insert_outcome_part(tables, plan.id, part.first..part.end, block, now).await?;
            self.refusals.outcomes = Refused::default();
            plan.outcome_parts.stored();
        }
        Ok(tables.recount_hours(plan.id, block, now).await?)
    }

    /// Takes note of a refusal that is the data's fault: tries again a few times, then cuts the plan in parts, and sets aside what
    /// is refused by itself. An error is to be waited after.
    async fn refused(
        &mut self,
        plan: &mut InsertPlan,
        ready: &Ready,
        refused: RefusedRows,
        refusal: EventsError,
    ) -> Result<(), ProcessError> {
        let (parts, refusals, all) = match refused {
            RefusedRows::Events => (&mut plan.parts, &mut self.refusals.events, ready.records),
            RefusedRows::Outcomes => {
                (&mut plan.outcome_parts, &mut self.refusals.outcomes, ready.block.outcomes.len() as u64)
            }
        };
        if parts.is_empty() {
            refusals.of_whole += 1;
            if refusals.of_whole < TRIES_OF_WHOLE {
                return Err(refusal.into());
            }
            *parts = Parts::begin(all);
        }
        if refusals.set_aside >= MAX_SET_ASIDE_IN_A_ROW {
            error!(set_aside = refusals.set_aside, "ClickHouse refuses everything, so it is not the events' fault");
            return Err(refusal.into());
        }
        if parts.refused(&refusal.to_string()) == Cut::SetAside {
            refusals.set_aside += 1;
            warn!(plan = %plan.id, rows = ?refused, "ClickHouse refuses a record or a row of the books, setting it aside");
        }
        let bytes = plan.to_bytes();
        self.blocking(move |journal| journal.amend_plan(&bytes)).await
    }

    /// Moves the cursor behind a plan that is inserted.
    async fn finish(&self, plan: &InsertPlan, ready: Ready, started: Instant) -> Result<(), ProcessError> {
        failpoint("process::after_insert_before_cursor");
        let Ready { block, events, dead_letters, unreadable_records, .. } = ready;
        let (plan_end, now) = (plan.end(), self.surroundings.now());
        self.blocking(move |journal| {
            let finished = Finished { events: &events, dead_letters: &dead_letters };
            journal.finish_plan_with(plan_end, &finished, now)
        })
        .await?;
        failpoint("process::after_cursor");
        self.metrics.events.inc_by(block.events.len() as u64);
        self.metrics.unreadable_records.inc_by(unreadable_records);
        self.metrics.plan_seconds.observe(started.elapsed().as_secs_f64());
        debug!(plan = %plan.id, events = block.events.len(), took = ?started.elapsed(), "plan finished");
        Ok(())
    }

    /// The plan's entries, and those of them that are damaged.
    async fn entries_of(&self, plan: &InsertPlan) -> Result<(Vec<JournalEntry>, Vec<CorruptEntry>), ProcessError> {
        let (first, end, positions) = (plan.first(), plan.end(), plan.positions());
        let read = self.blocking(move |journal| journal.read_from(first, positions, u64::MAX)).await?;
        if read.next < end {
            return Err(ProcessError::PlanOutOfRange);
        }
        let damaged = read.corrupt.into_iter().filter(|entry| entry.position < end).collect();
        Ok((read.entries.into_iter().filter(|entry| entry.position < end).collect(), damaged))
    }

    fn threads(&self) -> usize {
        match self.config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// The journal reads and writes the disk, so it is asked off the asynchronous threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, ProcessError> {
        let journal = self.journal.clone();
        Ok(self.surroundings.blocking(move || work(&journal)).await??)
    }
}

async fn out_of_patience(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_PATIENCE).await;
}
