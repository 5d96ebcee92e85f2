//! An aggregator: the real journal on a simulated disk, the real worker on a simulated ClickHouse, and what `intake` does between a
//! connection and the journal, without tasks.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use picket_aggregator::intake::reply_to;
use picket_aggregator::journal::{
    AppendError, Appended, Journal, JournalConfig, JournalRounds, SessionEpoch, SpoolClaim,
};
use picket_aggregator::process::config::ProcessConfig;
use picket_aggregator::process::{Pending, ProcessError, ProcessMetrics, Refusals, Worker};
use picket_common::config::ByteSize;
use picket_common::ids::{ProjectId, RelayId, SpoolId};
use picket_common::project_config::{ConfigSnapshot, ProjectConfig, ProjectSettings};
use picket_common::wire::BatchHeader;
use picket_common::wire::control::Window;
use picket_common::wire::lineage::{Greeting, SessionId};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::click_house::{ClickHouse, Client};
use crate::environment::Environment;
use crate::journal_disk::JournalDisk;
use crate::link::{ConnectionId, Down, Outbox, Standing, StreamId, Up};
use crate::pause::Waiting;
use crate::power::Fuse;
use crate::spool::SentBatch;
use crate::surroundings::{IssueBook, Simulated};

/// Payload bytes that a small journal holds; a batch has about 200.
const SMALL_JOURNAL: u64 = 1_500;
/// Pause of the worker after a failure, in milliseconds.
const PAUSE: u64 = 100;

/// What all aggregators share.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where events go.
    pub click_house: Arc<Mutex<ClickHouse>>,
    /// Which issue a hash leads to.
    pub issues: IssueBook,
}

/// An aggregator's host: its disk stays, its processes come and go.
#[derive(Debug)]
pub struct Aggregator {
    environment: Environment,
    stores: Stores,
    config: JournalConfig,
    /// Its disk.
    pub disk: Arc<JournalDisk>,
    /// Its power.
    pub fuse: Fuse,
    /// Counts its processes.
    pub life: u64,
    /// The one that runs.
    pub process: Option<Process>,
}

type Answer = Pin<Box<dyn Future<Output = Result<Appended, AppendError>>>>;

/// A batch that the journal was given.
struct Append {
    connection: ConnectionId,
    stream: StreamId,
    batch: SentBatch,
    answer: Answer,
}

/// A batch that the journal has answered.
#[derive(Debug)]
pub struct Judged {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its stream.
    pub stream: StreamId,
    /// The batch.
    pub batch: SentBatch,
    /// What became of it.
    pub appended: Result<Appended, AppendError>,
}

/// A process.
pub struct Process {
    journal: Journal,
    rounds: JournalRounds,
    appends: Vec<Append>,
    worker: Pin<Box<dyn Future<Output = ()>>>,
    waiting: Waiting,
    /// The session that each spool has.
    pub live: BTreeMap<SpoolId, ConnectionId>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("journal", &self.journal).field("live", &self.live).finish_non_exhaustive()
    }
}

// === impl Aggregator ===

impl Aggregator {
    /// A host with an empty disk.
    #[must_use]
    pub fn new(environment: &Environment, stores: Stores) -> Self {
        let fuse = Fuse::default();
        let config = if environment.chance(300) {
            JournalConfig { max_bytes: ByteSize::bytes(SMALL_JOURNAL), ..JournalConfig::default() }
        } else {
            JournalConfig::default()
        };
        let disk = Arc::new(JournalDisk::new(fuse.clone()));
        Self { environment: environment.clone(), stores, config, disk, fuse, life: 0, process: None }
    }

    /// Starts a process on what the disk holds.
    pub fn start(&mut self) {
        let (journal, rounds) = Journal::on_disk(Arc::clone(&self.disk) as Arc<_>, &self.config)
            .unwrap_or_else(|error| panic!("the journal does not open: {error}"));
        let waiting = Waiting::new(self.environment.clone());
        let worker = self.worker(journal.clone(), waiting.clone());
        let worker = Box::pin(work(worker, waiting.clone(), self.environment.clone()));
        self.process = Some(Process { journal, rounds, appends: Vec::new(), worker, waiting, live: BTreeMap::new() });
    }

    /// The process is gone, by a power cut or by a kill.
    pub fn stop(&mut self) {
        self.process = None;
        self.life += 1;
        self.fuse.put_out();
    }

    fn worker(&self, journal: Journal, waiting: Waiting) -> Worker<Simulated> {
        let (environment, fuse) = (self.environment.clone(), self.fuse.clone());
        let server = Arc::clone(&self.stores.click_house);
        let client = Client::new(server, environment.clone(), waiting.clone(), fuse.clone());
        let project = ProjectConfig {
            id: ProjectId::new(1),
            slug: "shop".to_owned(),
            keys: Vec::new(),
            settings: ProjectSettings { retention_days: 90, ..ProjectSettings::default() },
        };
        let snapshot = ConfigSnapshot { revision: 1, projects: vec![project] };
        // A worker looks at the present value only, so the sender may go.
        let (_, projects) = watch::channel(Arc::new(snapshot));
        let records = environment.between(4, 40);
        Worker {
            journal,
            surroundings: Simulated { client, issues: Arc::clone(&self.stores.issues), environment, waiting, fuse },
            projects,
            config: ProcessConfig { max_insert_records: records, threads: 1, ..ProcessConfig::default() },
            metrics: ProcessMetrics::register(&mut Registry::default()),
            refusals: Refusals::default(),
        }
    }
}

/// As `Worker::run`, without the lingering.
async fn work(mut worker: Worker<Simulated>, waiting: Waiting, environment: Environment) {
    loop {
        match step(&mut worker, &waiting).await {
            Ok(()) => {}
            Err(error) => {
                environment.note(|| format!("worker: {error}"));
                waiting.pause(PAUSE, PAUSE).await;
            }
        }
    }
}

async fn step(worker: &mut Worker<Simulated>, waiting: &Waiting) -> Result<(), ProcessError> {
    if worker.finish_pending().await? == Pending::Finished {
        return Ok(());
    }
    if worker.journal.cursor() >= worker.journal.end() {
        waiting.idle().await;
        return Ok(());
    }
    let read = worker.read().await?;
    worker.process(read).await
}

// === impl Process ===

impl Process {
    /// Hears a message of a relay; says what the connection is to the aggregator from now on.
    pub fn hear(
        &mut self,
        connection: ConnectionId,
        relay: RelayId,
        standing: &Standing,
        message: Up,
        environment: &Environment,
        out: &mut Outbox<Down>,
    ) -> Standing {
        match (standing, message) {
            (Standing::New, Up::Hello { spool_id, lineage, former }) => {
                let session = SessionId::from_random(environment.bytes());
                let claim = |spool| {
                    let claimed = self.journal.claim_spool(spool, relay, None);
                    assert_eq!(claimed.unwrap_or_else(failed), SpoolClaim::Granted, "all relays are one");
                    let (up_to, highest) = (self.journal.stored_up_to(spool), self.journal.highest_stored(spool));
                    (up_to.unwrap_or_else(failed), highest.unwrap_or_else(failed))
                };
                let (up_to, highest) = claim(spool_id);
                let formers = former.iter().map(|former| claim(*former).0).collect();
                match self.journal.greet_spool(spool_id, &lineage, session).unwrap_or_else(failed) {
                    Greeting::Welcome => {
                        let window = Window { batches: 4, bytes: 1 << 20 };
                        out.push((connection, Down::Welcome { window, up_to, highest, former: formers, session }));
                        Standing::Offered { spool_id, former, session }
                    }
                    Greeting::Forked { at } => {
                        out.push((connection, Down::Forked { at }));
                        Standing::Closed
                    }
                }
            }
            (Standing::Offered { spool_id, former, session }, Up::Confirm(confirmed)) if confirmed == *session => {
                let Some(epoch) = self.journal.confirm_session(*spool_id, *session).unwrap_or_else(failed) else {
                    out.push((connection, Down::Closed));
                    return Standing::Closed;
                };
                self.live.insert(*spool_id, connection);
                Standing::Live { spool_id: *spool_id, former: former.clone(), epoch }
            }
            (Standing::Live { spool_id, former, epoch }, Up::Batch(stream, batch)) => {
                let of = batch.header.spool_id;
                assert!(of == *spool_id || former.contains(&of), "a batch of another spool");
                // As `intake/session.rs`: batches of a former id are not fenced.
                self.append(connection, stream, batch, (of == *spool_id).then_some(*epoch));
                standing.clone()
            }
            (standing, message) => panic!("{message:?} came in {standing:?}"),
        }
    }

    fn append(&mut self, connection: ConnectionId, stream: StreamId, batch: SentBatch, epoch: Option<SessionEpoch>) {
        let (journal, header, payload) = (self.journal.clone(), batch.header.clone(), batch.payload.clone());
        let mut answer: Answer = Box::pin(async move { journal.append_in(epoch, header, payload).await });
        // Puts it in the queue; the answer comes with a round.
        assert!(poll(&mut answer).is_pending(), "the queue is bounded by the windows");
        self.appends.push(Append { connection, stream, batch, answer });
    }

    /// Does a round of the commit thread.
    pub fn commit(&mut self) {
        self.rounds.commit_waiting();
    }

    /// Takes the answers that are there.
    pub fn judged(&mut self) -> Vec<Judged> {
        let mut judged = Vec::new();
        let mut waiting = Vec::new();
        for mut append in std::mem::take(&mut self.appends) {
            match poll(&mut append.answer) {
                Poll::Ready(appended) => {
                    let Append { connection, stream, batch, .. } = append;
                    judged.push(Judged { connection, stream, batch, appended });
                }
                Poll::Pending => waiting.push(append),
            }
        }
        self.appends = waiting;
        judged
    }

    /// Whether the commit thread has something to do.
    #[must_use]
    pub const fn has_appends(&self) -> bool {
        !self.appends.is_empty()
    }

    /// Lets the worker go on; says when it wants to.
    pub fn work(&mut self) -> Option<u64> {
        assert!(poll(&mut self.worker).is_pending(), "the worker never ends");
        self.waiting.until()
    }

    /// Whether all that the journal took is in ClickHouse.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let plan = self.journal.plan().unwrap_or_else(failed);
        self.appends.is_empty() && plan.is_none() && self.journal.cursor() == self.journal.end()
    }
}

/// What the relay is told of a batch.
#[must_use]
pub fn reply(judged: &Judged) -> Down {
    let header: &BatchHeader = &judged.batch.header;
    Down::Reply(judged.stream, reply_to(header, &judged.appended))
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn failed<T>(error: impl std::fmt::Display) -> T {
    panic!("the journal failed: {error}")
}
