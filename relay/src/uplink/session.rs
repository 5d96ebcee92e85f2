//! One connection to one aggregator, from Hello to the end.
//!
//! Told in order: Hello and Welcome; the spool forgets what the aggregator has; then, as events come, batches are sent
//! in order as far as the window goes, answers are acted on, configurations are stored, statistics are sent.
//!
//! A directory that was copied or turned back (a cloned host, a restored snapshot) would give sequences to new records that the
//! aggregator knows from other ones, and would take those for stored. The aggregator knows it by its sessions and says where the
//! two parted (`picket_common::wire::lineage`); the spool then forks. A log that a bad sector cut off has its sessions still,
//! and shows in the welcome: the aggregator has more than this spool held when it was opened or has sent since. Then what was
//! there at open keeps its id, and the rest gets a new one.
//!
//! What it does not do: connect, or decide when to connect again ([`super`]).

use picket_common::failpoint::failpoint;
use picket_common::ids::Sequence;
use picket_common::quota::window::WindowUse;
use picket_common::timestamp::Timestamp;
use picket_common::transport::{Connection, ReceiveStream, SendStream};
use picket_common::wire::control::{MAX_QUOTA_WINDOWS, RelayStatistics, Window};
use picket_common::wire::{
    FrameError, FromAggregator, FromRelay, MAX_CONTROL_FRAME, PROTOCOL_VERSION, read_frame, write_frame,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Link;
use super::delivery::{Delivery, DeliveryError, deliver};
use super::error::LinkError;
use super::metrics::BatchResult;
use super::place::Place;
use super::renewal::Renewal;
use super::sending::{Heard, Mismatch, Reconciled, Sending, Sent, Settled, Stored, reconcile};
use crate::spool::{ReadCursor, SealedBatch, SetAsideReason, SpoolError};

/// Control messages read ahead; a configuration snapshot may be 16 MiB, so few.
const MESSAGES_AHEAD: usize = 2;
/// Clocks further apart than this are worth a word: event times would look wrong.
const MAX_SKEW_SECONDS: u64 = 60;

/// How a session ended well.
#[derive(Debug)]
pub(super) enum Ended {
    /// The relay is stopping.
    Stopped,
    /// The aggregator said goodbye.
    Goodbye,
    /// The relay has a new certificate, for the next connection.
    Renewed,
    /// There is a better connection, on which nothing was said yet.
    Better(Place),
}

/// A session after its welcome.
pub(super) struct Session<'a> {
    link: &'a Link,
    connection: Connection,
    control: SendStream,
    messages: mpsc::Receiver<Result<FromAggregator, FrameError>>,
    /// Reads the control stream; owned by the session and ended with it.
    _reader: AbortOnDropHandle<()>,
    committed: watch::Receiver<Sequence>,
    sending: Sending,
    /// One task a batch in flight, as many as the window allows; owned by the session and ended with it.
    deliveries: JoinSet<Delivery>,
    /// What was read to be sent in this session.
    cursor: ReadCursor,
    renewal: Renewal,
}

impl<'a> Session<'a> {
    /// Says hello, hears the welcome, and lets the spool forget what the aggregator has.
    pub(super) async fn begin(link: &'a Link, connection: Connection) -> Result<Self, LinkError> {
        let patience = link.config.connect_timeout.get();
        let begun = timeout(patience, greet(link, &connection)).await;
        let begun = begun.unwrap_or(Err(LinkError::Timeout { waiting_to: "be welcomed", seconds: patience.as_secs() }));
        let (mut control, receive, window, stored) = begun.map_err(|error| error.or_cause(&connection))?;
        let session = stored.session;
        forget_stored(link, stored).await?;
        if let Some(session) = session {
            // Only now that it is on disk: the aggregator takes it for proof.
            write_frame(&mut control, &FromRelay::Confirm { session }, MAX_CONTROL_FRAME).await?;
        }
        let (sender, messages) = mpsc::channel(MESSAGES_AHEAD);
        let own =
            Window { batches: link.config.max_in_flight_batches, bytes: link.config.max_in_flight_bytes.as_u64() };
        Ok(Self {
            link,
            connection,
            control,
            messages,
            _reader: AbortOnDropHandle::new(tokio::spawn(read_messages(receive, sender))),
            committed: link.spool.subscribe(),
            sending: Sending::new(own, window),
            deliveries: JoinSet::new(),
            renewal: Renewal::new(link.identity.clone(), link.renewed_at(), Timestamp::now),
            cursor: ReadCursor::default(),
        })
    }

    /// Sends until something ends it.
    ///
    /// `better` finds a connection to change to; what is in flight is answered on this one first.
    pub(super) async fn run(
        &mut self,
        better: impl Future<Output = Place>,
        stop: &CancellationToken,
    ) -> Result<Ended, LinkError> {
        let ended = self.serve(better, stop).await;
        ended.map_err(|error| error.or_cause(&self.connection))
    }

    async fn serve(
        &mut self,
        better: impl Future<Output = Place>,
        stop: &CancellationToken,
    ) -> Result<Ended, LinkError> {
        tokio::pin!(better);
        self.report_quotas(self.link.quotas.take_whole_report(Timestamp::now(), Instant::now())).await?;
        self.tell_trust().await?;
        let mut ticks = interval(self.link.config.statistics_interval.get());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.fill().await?;
            let next_due = self.sending.next_due();
            let has_room = self.sending.has_room();
            tokio::select! {
                () = stop.cancelled() => {
                    self.drain().await?;
                    self.report().await?;
                    return Ok(Ended::Stopped);
                }
                error = self.connection.closed() => return Err(LinkError::Dial(error.into())),
                place = &mut better => {
                    self.drain().await?;
                    return Ok(Ended::Better(place));
                }
                message = self.messages.recv() => {
                    if let After::End(ended) = self.hear(message.unwrap_or(Err(FrameError::Closed))?).await? {
                        self.drain().await?;
                        return Ok(ended);
                    }
                }
                Some(delivery) = self.deliveries.join_next() => self.settle(delivery?).await?,
                // The spool outlives the session, so this is never an error.
                _ = self.committed.changed() => {}
                // Not while the window is full: what is due could not be sent, and the branch would be ready for ever.
                () = sleep_until(next_due.unwrap_or_else(Instant::now)), if next_due.is_some() && has_room => {}
                () = self.link.quotas.due() => {
                    self.report_quotas(self.link.quotas.take_report(Instant::now())).await?;
                }
                () = self.renewal.due() => {
                    if let Some(request) = self.renewal.ask() {
                        self.tell(&request).await?;
                    }
                }
                _ = ticks.tick() => self.report().await?,
            }
        }
    }

    /// Sends what may be sent: first what was put off and is due, then what is new.
    async fn fill(&mut self) -> Result<(), LinkError> {
        while let Some((first, attempt)) = self.sending.again(Instant::now()) {
            let spool = self.link.spool.clone();
            if let Some(batch) = blocking(move || spool.read_one(first)).await? {
                self.send(batch, attempt).await?;
            }
        }
        while let Some(limit) = self.sending.room_for_new() {
            let committed = *self.committed.borrow_and_update();
            if self.cursor.is_at(committed) {
                break;
            }
            let (spool, mut cursor) = (self.link.spool.clone(), std::mem::take(&mut self.cursor));
            let read = move || spool.read_next(&mut cursor, limit).map(|batches| (cursor, batches));
            let (cursor, batches) = blocking(read).await?;
            self.cursor = cursor;
            // Either nothing is left up to the end, or the next batch waits for room.
            if batches.is_empty() {
                break;
            }
            for batch in batches {
                self.send(batch, 0).await?;
            }
        }
        let (batches, bytes) = self.sending.in_flight();
        self.link.status.in_flight(batches, bytes);
        Ok(())
    }

    async fn send(&mut self, batch: SealedBatch, attempt: u32) -> Result<(), LinkError> {
        let patience = self.link.config.reply_timeout.get();
        let opened = timeout(patience, self.connection.open()).await;
        let streams = opened
            .map_err(|_| LinkError::Timeout { waiting_to: "open a stream", seconds: patience.as_secs() })?
            .map_err(|error| LinkError::Dial(error.into()))?;
        failpoint("uplink::before_send");
        self.link.note_sent(batch.header.last);
        self.sending.sent(batch.header.payload_bytes);
        self.link.metrics.payload_bytes.inc_by(batch.header.payload_bytes);
        self.deliveries.spawn(deliver(streams, batch, attempt, patience));
        Ok(())
    }

    /// Acts on the answer to a batch.
    async fn settle(&mut self, delivery: Delivery) -> Result<(), LinkError> {
        let Delivery { first, last, bytes, attempt, took, answer } = delivery;
        let heard = match answer {
            Ok(reply) => Heard::Reply(reply),
            Err(DeliveryError::Timeout(patience)) => Heard::Silence(patience),
            Err(error @ DeliveryError::Stream(_)) => {
                tracing::debug!(%first, %last, %error, "a batch got no answer");
                Heard::Nothing
            }
        };
        let sent = Sent { first, last, bytes, attempt };
        let metrics = &self.link.metrics;
        match self.sending.settle(&sent, heard, Instant::now(), (self.link.random)()) {
            Settled::Delete { duplicate } => {
                metrics.count(if duplicate { BatchResult::Duplicate } else { BatchResult::Acked });
                metrics.ack_seconds.observe(took.as_secs_f64());
                tracing::debug!(%first, %last, duplicate, "batch acknowledged");
                let spool = self.link.spool.clone();
                failpoint("uplink::acked_before_removal");
                blocking(move || spool.acknowledge(first, last)).await?;
                failpoint("uplink::after_removal");
                self.link.note_progress();
                self.link.status.acked(Timestamp::now());
            }
            Settled::PutOff { detail: Some(detail) } => {
                tracing::debug!(%first, %last, attempt, detail, "the aggregator put a batch off");
                metrics.count(BatchResult::Retry);
            }
            Settled::PutOff { detail: None } => metrics.count(BatchResult::Lost),
            Settled::SetAside { reason, detail } => self.set_aside(first, reason, detail).await?,
            Settled::WrongBounds { first: acked_first, last: acked_last } => {
                let problem = format!("{acked_first}..={acked_last} was acknowledged for {first}..={last}");
                return Err(LinkError::Protocol(problem));
            }
            Settled::Silence(patience) => {
                metrics.count(BatchResult::Lost);
                let seconds = patience.as_secs();
                return Err(LinkError::Timeout { waiting_to: "have a batch taken and answered", seconds });
            }
        }
        Ok(())
    }

    async fn set_aside(&self, first: Sequence, reason: SetAsideReason, detail: String) -> Result<(), LinkError> {
        self.link.metrics.count(BatchResult::Refused);
        let spool = self.link.spool.clone();
        blocking(move || spool.set_aside(first, reason, &detail)).await
    }

    async fn hear(&mut self, message: FromAggregator) -> Result<After, LinkError> {
        match message {
            FromAggregator::ProjectConfigs(snapshot) => {
                let revision = snapshot.revision;
                let count = snapshot.projects.len();
                let projects = self.link.projects.clone();
                blocking(move || projects.replace(snapshot)).await?;
                tracing::info!(revision, projects = count, "project configuration received");
            }
            FromAggregator::Window(window) => self.sending.set_window(window),
            FromAggregator::Goodbye { reason } => {
                tracing::info!(reason, "the aggregator said goodbye");
                return Ok(After::End(Ended::Goodbye));
            }
            FromAggregator::Renewed { certificate_pem } => {
                if self.renewal.answered(certificate_pem, (self.link.random)()).await {
                    self.link.note_renewal();
                    return Ok(After::End(Ended::Renewed));
                }
            }
            FromAggregator::Authorities { certificates_pem } => {
                match self.link.identity.trust(certificates_pem).await {
                    Ok(()) => {
                        tracing::info!("the authorities to trust are others now");
                        self.tell_trust().await?;
                    }
                    // Said again now, the old ones would be answered with the same message, at once and without end. The next
                    // connection says them.
                    Err(error) => tracing::error!(%error, "the authorities to trust were not taken"),
                }
            }
            FromAggregator::RenewRefused { detail } => self.renewal.refused(&detail, (self.link.random)()),
            FromAggregator::Welcome { .. } | FromAggregator::Forked { .. } => {
                return Err(LinkError::Protocol("a second welcome".to_owned()));
            }
            FromAggregator::QuotaShares { relays, windows } => self.link.quotas.apply(relays, &windows),
            FromAggregator::Aggregators { addresses } => self.link.learn_aggregators(addresses).await,
            FromAggregator::Unknown => tracing::debug!("message of a newer aggregator ignored"),
        }
        Ok(After::Other)
    }

    /// Says whom the relay trusts.
    async fn tell_trust(&mut self) -> Result<(), LinkError> {
        match self.link.identity.current().trusted() {
            Ok(authorities) => self.tell(&FromRelay::Trusts { authorities }).await,
            Err(error) => {
                tracing::error!(%error, "an authority that was loaded is none");
                Ok(())
            }
        }
    }

    /// Waits for the answers to what is in flight, for a bounded time; sends nothing new.
    async fn drain(&mut self) -> Result<(), LinkError> {
        let deadline = Instant::now() + self.link.config.shutdown_timeout.get();
        while let Ok(Some(delivery)) = timeout_at(deadline, self.deliveries.join_next()).await {
            self.settle(delivery?).await?;
        }
        Ok(())
    }

    /// Sends statistics.
    async fn report(&mut self) -> Result<(), LinkError> {
        let usage = self.link.spool.usage();
        let statistics = FromRelay::Statistics(RelayStatistics {
            spooled_records: usage.records,
            spooled_bytes: usage.bytes,
            oldest_received_at: usage.oldest_received_at,
            accepted_total: usage.accepted_total,
        });
        self.tell(&statistics).await
    }

    /// Says what was admitted under quotas; the last part of it says that it is all.
    async fn report_quotas(&mut self, mut windows: Vec<WindowUse>) -> Result<(), LinkError> {
        while windows.len() > MAX_QUOTA_WINDOWS {
            let rest = windows.split_off(MAX_QUOTA_WINDOWS);
            let part = std::mem::replace(&mut windows, rest);
            self.tell(&FromRelay::QuotaUse { is_complete: false, windows: part }).await?;
        }
        self.tell(&FromRelay::QuotaUse { is_complete: true, windows }).await
    }

    async fn tell(&mut self, message: &FromRelay) -> Result<(), LinkError> {
        let patience = self.link.config.reply_timeout.get();
        let told = timeout(patience, write_frame(&mut self.control, message, MAX_CONTROL_FRAME)).await;
        Ok(told.map_err(|_| LinkError::Timeout {
            waiting_to: "write to the control stream",
            seconds: patience.as_secs(),
        })??)
    }
}

/// What follows from a message.
enum After {
    /// The session is over once what is in flight is answered.
    End(Ended),
    Other,
}

async fn greet(link: &Link, connection: &Connection) -> Result<(SendStream, ReceiveStream, Window, Stored), LinkError> {
    let former = link.spool.former_ids();
    let (mut send, mut receive) = connection.open().await.map_err(|error| LinkError::Dial(error.into()))?;
    let hello = FromRelay::Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        spool_id: link.spool.id(),
        config_revision: link.projects.revision(),
        lineage: Some(link.spool.lineage()),
        former_spools: former.iter().map(|former| former.spool_id).collect(),
    };
    write_frame(&mut send, &hello, MAX_CONTROL_FRAME).await?;
    match read_frame(&mut receive, MAX_CONTROL_FRAME).await? {
        FromAggregator::Welcome {
            protocol,
            version,
            server_time,
            window,
            stored_up_to,
            highest_stored,
            session,
            former_stored_up_to,
        } => {
            tracing::debug!(protocol, version, %stored_up_to, "welcomed");
            let now = Timestamp::now();
            link.status.clock_offset(server_time, now);
            let skew = now.since(server_time).max(server_time.since(now)).as_secs();
            if skew > MAX_SKEW_SECONDS {
                tracing::warn!(
                    seconds = skew,
                    "the clocks of relay and aggregator differ, see to time synchronisation"
                );
            }
            let stored = Stored {
                up_to: stored_up_to,
                highest: highest_stored.unwrap_or(stored_up_to),
                former: former.into_iter().map(|former| former.spool_id).zip(former_stored_up_to).collect(),
                session,
            };
            Ok((send, receive, window, stored))
        }
        FromAggregator::Forked { at } => Err(Mismatch::Forked { at }.into()),
        other => Err(LinkError::Protocol(format!("expected a welcome, got {}", name_of(&other)))),
    }
}

const fn name_of(message: &FromAggregator) -> &'static str {
    match message {
        FromAggregator::Welcome { .. } => "a welcome",
        FromAggregator::ProjectConfigs(_) => "a configuration",
        FromAggregator::Window(_) => "a window",
        FromAggregator::Goodbye { .. } => "a goodbye",
        FromAggregator::QuotaShares { .. } => "shares of quotas",
        FromAggregator::Renewed { .. } => "a certificate",
        FromAggregator::Authorities { .. } => "authorities",
        FromAggregator::RenewRefused { .. } => "a refusal to renew",
        FromAggregator::Aggregators { .. } => "a list of aggregators",
        FromAggregator::Forked { .. } => "a fork",
        FromAggregator::Unknown => "an unknown message",
    }
}

/// Deletes what the aggregator has, unless that speaks of other records than ours (module docs).
async fn forget_stored(link: &Link, stored: Stored) -> Result<(), LinkError> {
    let Reconciled { former, up_to, session } = reconcile(stored, link.highest_sent());
    let spool = link.spool.clone();
    let forgotten = blocking(move || {
        let of_former = former.into_iter().map(|(spool_id, up_to)| spool.forget_former(spool_id, up_to));
        let of_former: u64 = of_former.sum::<Result<_, _>>()?;
        Ok(of_former + spool.forget_stored(up_to)?)
    });
    let forgotten = forgotten.await?;
    if forgotten > 0 {
        tracing::info!(batches = forgotten, stored_up_to = %up_to, "the aggregator has these batches already");
    }
    let session = session?;
    let spool = link.spool.clone();
    blocking(move || spool.note_session(session)).await
}

/// Reads the control stream until it ends; frames can't be read piecemeal, so this is a task of its own. When the
/// session is slow to take messages, it waits.
async fn read_messages(mut receive: ReceiveStream, messages: mpsc::Sender<Result<FromAggregator, FrameError>>) {
    loop {
        let message = read_frame(&mut receive, MAX_CONTROL_FRAME).await;
        let is_last = message.is_err();
        if messages.send(message).await.is_err() || is_last {
            return;
        }
    }
}

/// RocksDB waits for the disk, so it is called on the blocking pool; a session has at most one call there.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, LinkError> {
    Ok(tokio::task::spawn_blocking(work).await??)
}
