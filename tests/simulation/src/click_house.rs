//! ClickHouse as far as inserts know it: tables that forget tokens, lose answers, take their time, and are killed between a token and
//! its rows (`docs/decisions/0002-insert-plans-and-tokens.md`).
//!
//! What it does not do: refuse rows, expire them, or let an insert that hangs outlive the process that sent it by more than a restart
//! takes. A second token that hangs for so long is a known hole: it is drawn anew by the next process.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use picket_aggregator::events::EventsError;
use picket_aggregator::events::insert::Block;
use picket_aggregator::events::row::{EventRow, OutcomeRow};
use picket_aggregator::events::tables::{EventName, Tables};
use picket_common::timestamp::Timestamp;
use uuid::Uuid;

use crate::environment::{Environment, Millis};
use crate::pause::Waiting;
use crate::power::Fuse;

/// Tokens that a table remembers. The real window is 10 000 blocks.
const WINDOW: usize = 60;
/// How long an insert may hang before it is carried out after all. Shorter than any restart.
pub const LONGEST_HANG: Millis = 3_000;

/// An hour of an issue.
type IssueHour = (u64, u64, i64);

/// One insert: a block.
#[derive(Debug, Clone)]
struct Insert {
    table: &'static str,
    token: String,
    events: Vec<(EventName, IssueHour)>,
    outcomes: Vec<OutcomeRow>,
    stamp: Option<Uuid>,
}

#[derive(Debug, Default)]
struct Table {
    tokens: VecDeque<(String, Millis)>,
    rows: Vec<(EventName, IssueHour)>,
}

/// How far an insert gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Whole,
    /// Killed after the token was logged.
    Token,
    /// Killed after the rows, before the view's counts.
    Rows,
}

/// The server.
#[derive(Debug, Default)]
pub struct ClickHouse {
    tables: BTreeMap<&'static str, Table>,
    hourly: BTreeMap<IssueHour, u64>,
    outcomes: BTreeMap<(u64, String, String), u64>,
    stamps: BTreeSet<Uuid>,
    late: Vec<(Millis, Insert)>,
    away_until: Millis,
    /// Of a thousand calls, how many meet each kind of trouble.
    trouble: u64,
}

// === impl ClickHouse ===

impl ClickHouse {
    /// Of a thousand calls so many meet each kind of trouble from now on.
    pub const fn set_trouble(&mut self, permille: u64) {
        self.trouble = permille;
    }

    /// It answers nothing until then.
    pub fn stay_away(&mut self, until: Millis) {
        self.away_until = self.away_until.max(until);
    }

    /// It is there, and has done what it was at.
    pub fn come_back(&mut self, now: Millis) {
        self.away_until = now;
        self.catch_up(Millis::MAX);
    }

    /// Other writers have inserted more than the window holds: all tokens go but of inserts that are or may be under way, since ten
    /// thousand blocks take longer than any insert hangs.
    pub fn forget_tokens(&mut self, now: Millis) {
        self.catch_up(now);
        for (name, table) in &mut self.tables {
            let hangs = |token: &str| self.late.iter().any(|(_, late)| late.table == *name && late.token == token);
            table.tokens.retain(|(token, at)| at + 2 * LONGEST_HANG > now || hangs(token));
        }
    }

    /// How often each event is in a table.
    #[must_use]
    pub fn events(&self, table: &str) -> BTreeMap<Uuid, u64> {
        let mut found = BTreeMap::new();
        for ((_, event), _) in self.tables.get(table).map_or(&[][..], |table| &table.rows) {
            *found.entry(*event).or_default() += 1;
        }
        found
    }

    /// Whether the counts by hour are those of the events.
    #[must_use]
    pub fn counts_agree(&self) -> bool {
        let mut expected: BTreeMap<IssueHour, u64> = BTreeMap::new();
        for (_, hour) in self.tables.get("events").map_or(&[][..], |table| &table.rows) {
            *expected.entry(*hour).or_default() += 1;
        }
        let counted: BTreeMap<_, _> = self.hourly.iter().filter(|(_, count)| **count > 0).collect();
        counted.into_iter().eq(expected.iter())
    }

    /// The sum of an outcome over all projects and hours.
    #[must_use]
    pub fn outcomes(&self, outcome: &str) -> u64 {
        let of_it = self.outcomes.iter().filter(|((_, name, _), _)| name == outcome);
        of_it.map(|(_, quantity)| quantity).sum()
    }

    fn catch_up(&mut self, now: Millis) {
        let (due, late) = std::mem::take(&mut self.late).into_iter().partition(|(at, _)| *at <= now);
        self.late = late;
        for (at, insert) in due {
            self.apply(insert, at, Reach::Whole);
        }
    }

    fn apply(&mut self, insert: Insert, now: Millis, reach: Reach) {
        let table = self.tables.entry(insert.table).or_default();
        if table.tokens.iter().any(|(token, _)| *token == insert.token) {
            return;
        }
        table.tokens.push_back((insert.token, now));
        table.tokens.drain(..table.tokens.len().saturating_sub(WINDOW));
        if reach == Reach::Token {
            return;
        }
        table.rows.extend(&insert.events);
        if insert.table == "events" && reach == Reach::Whole {
            insert.events.iter().for_each(|(_, hour)| *self.hourly.entry(*hour).or_default() += 1);
        }
        self.stamps.extend(insert.stamp);
        for row in insert.outcomes {
            *self.outcomes.entry((row.project_id, row.outcome, row.reason)).or_default() += row.quantity;
        }
    }
}

/// A client of the server, in one process.
#[derive(Debug)]
pub struct Client {
    server: Arc<Mutex<ClickHouse>>,
    environment: Environment,
    waiting: Waiting,
    fuse: Fuse,
    instance: Uuid,
    second_tokens: AtomicU64,
    second_token_in_doubt: Mutex<Option<Uuid>>,
}

// === impl Client ===

impl Client {
    /// Connects a process.
    #[must_use]
    pub fn new(server: Arc<Mutex<ClickHouse>>, environment: Environment, waiting: Waiting, fuse: Fuse) -> Self {
        let instance = Uuid::from_bytes(environment.bytes());
        let (second_tokens, second_token_in_doubt) = (AtomicU64::new(0), Mutex::new(None));
        Self { server, environment, waiting, fuse, instance, second_tokens, second_token_in_doubt }
    }

    fn lock(&self) -> MutexGuard<'_, ClickHouse> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_doubt(&self) -> MutexGuard<'_, Option<Uuid>> {
        self.second_token_in_doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to the server; an error where it is away.
    async fn reach(&self) -> Result<(), EventsError> {
        self.waiting.pause(1, 12).await;
        self.fuse.burn();
        let now = self.environment.now();
        let mut server = self.lock();
        server.catch_up(now);
        if server.away_until > now { Err(no_answer()) } else { Ok(()) }
    }

    async fn insert(&self, insert: Insert) -> Result<(), EventsError> {
        self.reach().await?;
        let now = self.environment.now();
        let trouble = self.lock().trouble;
        let troubled = || self.environment.chance(trouble);
        let reach = if troubled() {
            // Killed; it is back after a while.
            let until = now + self.environment.between(200, 4_000);
            self.lock().stay_away(until);
            if self.environment.chance(500) { Reach::Token } else { Reach::Rows }
        } else {
            Reach::Whole
        };
        if reach == Reach::Whole && troubled() {
            let at = now + self.environment.between(100, LONGEST_HANG);
            self.environment.note(|| format!("clickhouse: {} hangs until {at}", insert.token));
            self.lock().late.push((at, insert));
            return Err(no_answer());
        }
        self.environment.note(|| format!("clickhouse: {} of {} rows, {reach:?}", insert.token, insert.events.len()));
        self.lock().apply(insert, now, reach);
        self.fuse.burn();
        if reach != Reach::Whole || troubled() {
            return Err(no_answer());
        }
        self.waiting.pause(1, 12).await;
        Ok(())
    }
}

fn no_answer() -> EventsError {
    EventsError::Timeout(Duration::from_secs(1))
}

fn hour_of(event: &EventRow) -> IssueHour {
    (event.project_id, event.issue_id, event.timestamp / 3_600_000)
}

impl Tables for Client {
    async fn insert_rows(
        &self,
        token: String,
        table: &'static str,
        block: &Block,
        positions: &[usize],
    ) -> Result<(), EventsError> {
        let events = positions.iter().filter_map(|&at| block.events.get(at));
        let events = events.map(|event| ((event.project_id, event.event_id), hour_of(event))).collect();
        self.insert(Insert { table, token, events, outcomes: Vec::new(), stamp: None }).await
    }

    async fn insert_outcomes(&self, token: String, plan: Uuid, block: &Block) -> Result<(), EventsError> {
        let outcomes = block.outcomes.clone();
        self.insert(Insert { table: "outcomes", token, events: Vec::new(), outcomes, stamp: Some(plan) }).await
    }

    async fn has_stamp(&self, plan: Uuid, _: &Block) -> Result<bool, EventsError> {
        self.reach().await?;
        Ok(self.lock().stamps.contains(&plan))
    }

    async fn missing(
        &self,
        table: &'static str,
        block: &Block,
        positions: &[usize],
        _: Timestamp,
    ) -> Result<HashSet<EventName>, EventsError> {
        self.reach().await?;
        let named = positions.iter().filter_map(|&at| block.events.get(at));
        let mut missing: HashSet<_> = named.map(|event| (event.project_id, event.event_id)).collect();
        let server = self.lock();
        for (event, _) in server.tables.get(table).map_or(&[][..], |table| &table.rows) {
            missing.remove(event);
        }
        Ok(missing)
    }

    async fn recount_hours(&self, _: Uuid, block: &Block, _: Timestamp) -> Result<(), EventsError> {
        self.reach().await?;
        let touched: BTreeSet<_> = block.events.iter().map(hour_of).collect();
        let mut server = self.lock();
        for hour in touched {
            let rows = server.tables.get("events").map_or(&[][..], |table| &table.rows);
            let count = rows.iter().filter(|(_, of)| *of == hour).count() as u64;
            server.hourly.insert(hour, count);
        }
        Ok(())
    }

    fn second_token(&self, plan: Uuid) -> String {
        *self.in_doubt() = Some(plan);
        format!("{plan}/{}-{}", self.instance, self.second_tokens.load(Ordering::Relaxed))
    }

    fn second_token_used(&self) {
        self.second_tokens.fetch_add(1, Ordering::Relaxed);
        *self.in_doubt() = None;
    }

    fn is_second_token_in_doubt(&self, plan: Uuid) -> bool {
        *self.in_doubt() == Some(plan)
    }

    async fn settle(&self) {
        self.waiting.pause(1_000, 1_000).await;
    }
}
