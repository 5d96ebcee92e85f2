//! A relay: events come in, batches go out. What it decides is the real uplink's ([`picket_relay::uplink::sending`]) and the real spool's
//! identity; here is what `uplink/session.rs` does about it, without tasks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use picket_common::ids::{RelayId, Sequence};
use picket_common::wire::BatchReply;
use picket_common::wire::control::Window;
use picket_relay::spool::SpoolError;
use picket_relay::uplink::sending::{Heard, Mismatch, Sending, Sent, Settled, Stored, reconcile};
use tokio::time::Instant;

use crate::environment::{Environment, Millis};
use crate::link::{ConnectionId, Down, Outbox, StreamId, Up};
use crate::power::Fuse;
use crate::spool::{Contents, Event, SentBatch, Spool, SpoolDisk, SpoolFiles, SpoolFlaw};

/// What the relay itself lets be in flight.
const OWN_WINDOW: Window = Window { batches: 4, bytes: 1 << 20 };

/// What is wrong with a relay on purpose; nothing in a run that has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayFlaw {
    /// Nothing.
    None,
    /// A new session goes on where the last one stopped reading.
    ForgetsInFlight,
    /// Of its spool.
    Spool(SpoolFlaw),
}

/// A relay's host: its disk stays, its processes come and go.
#[derive(Debug)]
pub struct Relay {
    /// Who it is, by its certificate.
    pub relay_id: RelayId,
    /// Its files.
    pub disk: Rc<RefCell<SpoolDisk>>,
    /// Its power.
    pub fuse: Fuse,
    /// Counts its processes.
    pub life: u64,
    /// The one that runs.
    pub process: Option<RelayProcess>,
    flaw: RelayFlaw,
}

/// A process.
#[derive(Debug)]
pub struct RelayProcess {
    environment: Environment,
    /// Its spool.
    pub spool: Spool,
    highest_sent: Sequence,
    /// The one session it has, with its connection.
    pub session: Option<(ConnectionId, Session)>,
    flaw: RelayFlaw,
    last_cursor: u64,
    began: Instant,
}

/// How a session goes.
#[derive(Debug)]
pub enum Session {
    /// Hello was said.
    Greeting,
    /// It was welcomed.
    Sending(Box<Flow>),
}

/// What a session that was welcomed knows.
#[derive(Debug)]
pub struct Flow {
    sending: Sending,
    cursor: u64,
    next_stream: StreamId,
    streams: BTreeMap<StreamId, Sent>,
}

/// What follows for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    GoesOn,
    /// The session is over.
    Over,
}

// === impl Relay ===

impl Relay {
    /// A host with these files.
    #[must_use]
    pub fn new(relay_id: RelayId, contents: Contents, flaw: RelayFlaw) -> Self {
        let fuse = Fuse::default();
        let disk = Rc::new(RefCell::new(SpoolDisk::new(contents, fuse.clone())));
        Self { relay_id, disk, fuse, life: 0, process: None, flaw }
    }

    /// Starts a process.
    ///
    /// # Errors
    /// As the spool has them; none here.
    pub fn start(&mut self, environment: &Environment, began: Instant) -> Result<(), SpoolError> {
        let flaw = if let RelayFlaw::Spool(flaw) = self.flaw { flaw } else { SpoolFlaw::None };
        let spool = Spool::open(SpoolFiles(Rc::clone(&self.disk)), environment.bytes(), flaw)?;
        let highest_sent = spool.identity().sealed_before_contact();
        self.process = Some(RelayProcess {
            environment: environment.clone(),
            spool,
            highest_sent,
            session: None,
            flaw: self.flaw,
            last_cursor: 1,
            began,
        });
        Ok(())
    }

    /// The files are others now. No process may run.
    pub fn replace_disk(&mut self, contents: Contents) {
        *self.disk.borrow_mut() = SpoolDisk::new(contents, self.fuse.clone());
    }

    /// The process is gone, by a power cut or by a kill.
    pub fn stop(&mut self, environment: &Environment) {
        self.process = None;
        self.life += 1;
        self.fuse.put_out();
        self.disk.borrow_mut().lose_unsynced(environment);
    }
}

// === impl RelayProcess ===

impl RelayProcess {
    /// Takes an event; it is answered when this returns.
    pub fn accept(&self, event: Event) {
        self.spool.append(event);
    }

    /// Says hello on a new connection.
    pub fn greet(&mut self, connection: ConnectionId, out: &mut Outbox<Up>) {
        let identity = self.spool.identity();
        let former = identity.former().iter().map(|former| former.spool_id).collect();
        out.push((connection, Up::Hello { spool_id: identity.current(), lineage: identity.lineage(), former }));
        self.session = Some((connection, Session::Greeting));
    }

    /// Hears a message of its session's connection.
    ///
    /// # Errors
    /// As the spool has them; none here.
    pub fn hear(&mut self, connection: ConnectionId, message: Down, out: &mut Outbox<Up>) -> Result<After, SpoolError> {
        match message {
            Down::Welcome { window, up_to, highest, former, session } => {
                let ids: Vec<_> = self.spool.identity().former().iter().map(|former| former.spool_id).collect();
                let former = ids.into_iter().zip(former).collect();
                let stored = Stored { up_to, highest, former, session: Some(session) };
                self.welcomed(connection, stored, window, out)
            }
            Down::Forked { at } => self.mend(Mismatch::Forked { at }),
            Down::Reply(stream, reply) => self.settle(stream, Heard::Reply(reply)),
            Down::Broken(stream) => self.settle(stream, Heard::Nothing),
            Down::Closed => Ok(self.end()),
        }
    }

    /// Nothing was heard of a batch for so long that the aggregator is taken for dead.
    ///
    /// # Errors
    /// As the spool has them; none here.
    pub fn lose_patience(&mut self, stream: StreamId, waited: Millis) -> Result<After, SpoolError> {
        self.settle(stream, Heard::Silence(Duration::from_millis(waited)))
    }

    /// Sends what may be sent.
    pub fn fill(&mut self, out: &mut Outbox<Up>) {
        let now = self.now();
        let Some((connection, Session::Sending(flow))) = &mut self.session else { return };
        let connection = *connection;
        while let Some((first, attempt)) = flow.sending.again(now) {
            if let Some(batch) = self.spool.read_one(first) {
                self.highest_sent = self.highest_sent.max(batch.header.last);
                flow.send(connection, batch, attempt, out);
            }
        }
        while let Some(limit) = flow.sending.room_for_new() {
            let batches = self.spool.read_next(&mut flow.cursor, limit);
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                self.highest_sent = self.highest_sent.max(batch.header.last);
                flow.send(connection, batch, 0, out);
            }
        }
        self.last_cursor = flow.cursor;
    }

    /// When something that was put off is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        let Some((_, Session::Sending(flow))) = &self.session else { return None };
        let due = flow.sending.next_due()?;
        let due = u64::try_from(due.duration_since(self.began).as_millis()).unwrap_or(Millis::MAX);
        // The due time is cut off to milliseconds.
        Some(due + 1)
    }

    /// Streams without an answer.
    #[must_use]
    pub fn awaits(&self, stream: StreamId) -> bool {
        matches!(&self.session, Some((_, Session::Sending(flow))) if flow.streams.contains_key(&stream))
    }

    fn welcomed(
        &mut self,
        connection: ConnectionId,
        stored: Stored,
        window: Window,
        out: &mut Outbox<Up>,
    ) -> Result<After, SpoolError> {
        let reconciled = reconcile(stored, self.highest_sent);
        for (spool_id, up_to) in reconciled.former {
            self.spool.forget_former(spool_id, up_to)?;
        }
        self.spool.forget_stored(reconciled.up_to);
        let session = match reconciled.session {
            Ok(session) => session,
            Err(mismatch) => return self.mend(mismatch),
        };
        self.spool.note_session(session)?;
        if let Some(session) = session {
            out.push((connection, Up::Confirm(session)));
        }
        let cursor = if self.flaw == RelayFlaw::ForgetsInFlight { self.last_cursor } else { 1 };
        let flow = Flow { sending: Sending::new(OWN_WINDOW, window), cursor, next_stream: 0, streams: BTreeMap::new() };
        self.session = Some((connection, Session::Sending(Box::new(flow))));
        Ok(After::GoesOn)
    }

    fn settle(&mut self, stream: StreamId, heard: Heard) -> Result<After, SpoolError> {
        let (now, random) = (self.now(), self.environment.number());
        let Some((_, Session::Sending(flow))) = &mut self.session else { return Ok(After::GoesOn) };
        // A stream has one answer; what comes later goes nowhere.
        let Some(sent) = flow.streams.remove(&stream) else { return Ok(After::GoesOn) };
        match flow.sending.settle(&sent, heard, now, random) {
            Settled::Delete { .. } => self.spool.acknowledge(sent.first, sent.last),
            Settled::PutOff { .. } => {}
            Settled::SetAside { reason, detail } => {
                panic!("{}..={} would be set aside ({}): {detail}", sent.first, sent.last, reason.as_str())
            }
            Settled::WrongBounds { first, last } => {
                panic!("{first}..={last} was acknowledged for {}..={}", sent.first, sent.last)
            }
            Settled::Silence(_) => return Ok(self.end()),
        }
        Ok(After::GoesOn)
    }

    fn mend(&mut self, mismatch: Mismatch) -> Result<After, SpoolError> {
        self.environment.note(|| format!("relay: forks, {mismatch:?}"));
        self.spool.fork(mismatch.fork_point(), self.environment.bytes())?;
        self.highest_sent = Sequence::new(0);
        Ok(self.end())
    }

    fn end(&mut self) -> After {
        self.session = None;
        After::Over
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_millis(self.environment.now())
    }
}

// === impl Flow ===

impl Flow {
    fn send(&mut self, connection: ConnectionId, batch: SentBatch, attempt: u32, out: &mut Outbox<Up>) {
        let stream = self.next_stream;
        self.next_stream += 1;
        let (first, last, bytes) = (batch.header.first, batch.header.last, batch.header.payload_bytes);
        self.sending.sent(bytes);
        self.streams.insert(stream, Sent { first, last, bytes, attempt });
        out.push((connection, Up::Batch(stream, batch)));
    }
}

/// Whether a reply says that the batch is stored.
#[must_use]
pub const fn is_ack(reply: &BatchReply) -> bool {
    matches!(reply, BatchReply::Ack { .. })
}
