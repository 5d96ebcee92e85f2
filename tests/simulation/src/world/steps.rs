//! What each event of a run does, and what it brings about.

use picket_relay::spool::SpoolError;

use super::{Event, World};
use crate::aggregator::{Judged, reply};
use crate::environment::Millis;
use crate::link::{Connection, ConnectionId, Down, Outbox, Standing, Up};
use crate::power::until_cut;
use crate::relay::{After, RelayProcess, is_ack};
use crate::spool::Event as Posted;

/// How long a relay waits for an answer.
pub(super) const PATIENCE: Millis = 8_000;
/// How long a record waits for company.
const LINGER: Millis = 200;
/// Longest time between two tries of an SDK.
const SDK_PATIENCE: Millis = 60_000;

// === impl World: relays ===

impl World {
    pub(super) fn start_relay(&mut self, relay: usize) {
        if self.relays[relay].process.is_some() {
            return;
        }
        self.environment.note(|| format!("relay {relay}: starts"));
        let (environment, began) = (self.environment.clone(), self.began);
        self.relays[relay].start(&environment, began).unwrap_or_else(failed);
        let life = self.relays[relay].life;
        self.after(environment.between(1, 500), Event::Dial { relay, life });
    }

    pub(super) fn post(&mut self, relay: usize, number: u64, attempt: u32) {
        let Some(process) = &self.relays[relay].process else {
            let wait = (200 << attempt.min(9)).min(SDK_PATIENCE);
            return self.after(wait, Event::Post { relay, number, attempt: attempt + 1 });
        };
        let posted = Posted { number, received_at: self.environment.time_of_day() };
        let accepted = until_cut(|| process.accept(posted));
        let life = self.relays[relay].life;
        match accepted {
            Ok(()) => {
                self.environment.note(|| format!("relay {relay}: answers event {number}"));
                self.truth.answered(number);
                self.after(LINGER, Event::Seal { relay, life });
                self.posts_left -= 1;
            }
            Err(_cut) => {
                self.truth.not_answered(number);
                // An SDK that heard nothing posts the event again, or gives up.
                if self.environment.chance(500) {
                    self.after(300, Event::Post { relay, number, attempt: 0 });
                } else {
                    self.posts_left -= 1;
                }
                self.cut_relay(relay);
            }
        }
    }

    /// A step of a relay's process, if it is the one that is meant.
    pub(super) fn relay_works(
        &mut self,
        relay: usize,
        life: u64,
        work: impl FnOnce(&mut RelayProcess, &mut Outbox<Up>) -> Result<After, SpoolError>,
    ) {
        if self.relays[relay].life != life {
            return;
        }
        let Some(process) = self.relays[relay].process.as_mut() else { return };
        let connection = process.session.as_ref().map(|(connection, _)| *connection);
        let mut out = Vec::new();
        let worked = until_cut(|| {
            let after = work(process, &mut out).unwrap_or_else(failed);
            process.fill(&mut out);
            after
        });
        let next_due = process.next_due();
        self.send_up(relay, out);
        match worked {
            Ok(After::GoesOn) => {
                if let Some(due) = next_due {
                    let wait = due.saturating_sub(self.environment.now()).max(1);
                    self.after(wait, Event::Fill { relay, life });
                }
            }
            Ok(After::Over) => {
                connection.into_iter().for_each(|connection| self.hang_up(connection));
                self.after(self.environment.between(50, 1_500), Event::Dial { relay, life });
            }
            Err(_cut) => self.cut_relay(relay),
        }
    }

    pub(super) fn dial(&mut self, relay: usize, life: u64) {
        let is_free = self.relays[relay].process.as_ref().is_some_and(|process| process.session.is_none());
        if self.relays[relay].life != life || !is_free {
            return;
        }
        if self.aggregator.process.is_none() || self.environment.now() < self.cut_off_until {
            return self.after(self.environment.between(200, 3_000), Event::Dial { relay, life });
        }
        let id = self.next_connection;
        self.next_connection += 1;
        let aggregator = (0, self.aggregator.life);
        let connection = Connection { relay: (relay, life), aggregator, is_broken: false, standing: Standing::New };
        self.connections.insert(id, connection);
        self.environment.note(|| format!("relay {relay}: dials, connection {id}"));
        self.relay_works(relay, life, |process, out| {
            process.greet(id, out);
            Ok(After::GoesOn)
        });
    }

    /// The relay's process is gone, and its connections with it.
    pub(crate) fn cut_relay(&mut self, relay: usize) {
        self.environment.note(|| format!("relay {relay}: power cut"));
        self.report.cuts += 1;
        let life = self.relays[relay].life;
        let environment = self.environment.clone();
        self.relays[relay].stop(&environment);
        let its = |connection: &Connection| connection.relay == (relay, life);
        let its: Vec<_> = self.connections.iter().filter(|(_, of)| its(of)).map(|(id, _)| *id).collect();
        its.into_iter().for_each(|connection| self.hang_up(connection));
        self.after(environment.between(100, 4_000), Event::StartRelay(relay));
    }

    /// The relay's end is gone; the aggregator notices later.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.is_broken = true;
            let wait = self.environment.between(1, 3_000);
            self.after(wait, Event::Gone(connection));
        }
    }

    fn send_up(&mut self, relay: usize, out: Outbox<Up>) {
        let life = self.relays[relay].life;
        for (connection, message) in out {
            let delay = self.delay();
            if let Up::Batch(stream, batch) = &message {
                let (header, stream) = (&batch.header, *stream);
                let line = || format!("relay {relay}: sends {}..={} of {}", header.first, header.last, header.spool_id);
                self.environment.note(line);
                self.after(PATIENCE, Event::Patience { relay, life, connection, stream });
                if self.is_troubled() {
                    // The stream breaks; the batch has arrived or not.
                    let wait = self.delay();
                    self.after(wait, Event::ToRelay(connection, Down::Broken(stream)));
                    if self.environment.chance(500) {
                        continue;
                    }
                }
                if self.is_troubled() {
                    let delay = self.delay();
                    self.after(delay, Event::ToAggregator(connection, message.clone()));
                }
            }
            self.after(delay, Event::ToAggregator(connection, message));
        }
    }

    pub(super) fn reach_relay(&mut self, connection: ConnectionId, message: Down) {
        let Some(known) = self.connections.get(&connection) else { return };
        let (relay, life) = known.relay;
        if known.is_broken && !matches!(message, Down::Closed) {
            return;
        }
        let has_it = |process: &RelayProcess| process.session.as_ref().is_some_and(|(of, _)| *of == connection);
        if self.relays[relay].life != life || !self.relays[relay].process.as_ref().is_some_and(has_it) {
            return;
        }
        self.environment.note(|| match &message {
            Down::Reply(stream, said) => format!("relay {relay}: hears of stream {stream}: {said:?}"),
            other => format!("relay {relay}: hears {other:?}"),
        });
        match &message {
            Down::Reply(_, said) if is_ack(said) => self.report.acknowledged += 1,
            Down::Forked { .. } => self.report.forks += 1,
            _ => {}
        }
        self.relay_works(relay, life, |process, out| process.hear(connection, message, out));
    }
}

// === impl World: the aggregator ===

impl World {
    pub(super) fn reach_aggregator(&mut self, connection: ConnectionId, message: Up) {
        let Some(known) = self.connections.get(&connection) else { return };
        let (standing, relay) = (known.standing.clone(), known.relay.0);
        if known.aggregator.1 != self.aggregator.life || self.aggregator.process.is_none() {
            return self.close(connection);
        }
        // Of what was on its way when the connection broke, some had arrived.
        if standing == Standing::Closed || known.is_broken && self.environment.chance(500) {
            return;
        }
        // Streams are not looked at before the session is confirmed.
        if matches!(message, Up::Batch(..)) && !matches!(standing, Standing::Live { .. }) {
            if !known.is_broken {
                self.after(5, Event::ToAggregator(connection, message));
            }
            return;
        }
        let is_batch = matches!(message, Up::Batch(..));
        let relay_id = self.relays[relay].relay_id;
        let environment = self.environment.clone();
        let Some(process) = self.aggregator.process.as_mut() else { return };
        let before = process.live.clone();
        let mut out = Vec::new();
        let heard = until_cut(|| process.hear(connection, relay_id, &standing, message, &environment, &mut out));
        for (connection, message) in out {
            let delay = self.delay();
            self.after(delay, Event::ToRelay(connection, message));
        }
        let Ok(standing) = heard else { return self.cut_aggregator() };
        if is_batch {
            let life = self.aggregator.life;
            self.after(environment.between(1, 8), Event::Commit { life });
        } else if let Standing::Live { spool_id, .. } = &standing
            && let Some(older) = before.get(spool_id).filter(|older| **older != connection)
        {
            environment.note(|| format!("aggregator: connection {connection} takes over from {older}"));
            self.close(*older);
        }
        if let Some(known) = self.connections.get_mut(&connection) {
            known.standing = standing;
        }
        self.check_sessions();
    }

    /// The aggregator's end is closed; the relay hears of it later.
    fn close(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.standing = Standing::Closed;
        }
        let wait = self.environment.between(1, 2_000);
        self.after(wait, Event::ToRelay(connection, Down::Closed));
    }

    /// A spool has one session that takes batches.
    fn check_sessions(&self) {
        let mut spools = std::collections::BTreeSet::new();
        for known in self.connections.values().filter(|known| known.aggregator.1 == self.aggregator.life) {
            if let Standing::Live { spool_id, .. } = &known.standing {
                assert!(spools.insert(*spool_id), "two live sessions of {spool_id}");
            }
        }
    }

    pub(super) fn commit(&mut self, life: u64) {
        if self.aggregator.life != life {
            return;
        }
        let Some(process) = self.aggregator.process.as_mut() else { return };
        let committed = until_cut(|| process.commit());
        let judged = process.judged();
        if process.has_appends() && committed.is_ok() {
            self.after(1, Event::Commit { life });
        }
        for judged in judged {
            // Answers that were given before the power was cut may be out, or not.
            if committed.is_ok() || self.environment.chance(500) {
                self.answer(&judged);
            }
        }
        match committed {
            Ok(()) => self.wake_worker(1),
            Err(_cut) => self.cut_aggregator(),
        }
    }

    fn answer(&mut self, judged: &Judged) {
        let header = &judged.batch.header;
        let is_heard = self
            .connections
            .get(&judged.connection)
            .is_some_and(|known| !known.is_broken && known.standing != Standing::Closed);
        if let Ok(appended) = judged.appended {
            let is_covered = self.aggregator.disk.covers(header.spool_id, header.first, header.last);
            assert!(is_covered, "{}..={} is acknowledged and not on disk", header.first, header.last);
            let is_new = appended == picket_aggregator::journal::Appended::Stored;
            self.report.duplicates += u64::from(!is_new);
            self.truth.judged(judged, is_new, is_heard);
        }
        if is_heard {
            let delay = self.delay();
            self.after(delay, Event::ToRelay(judged.connection, reply(judged)));
        }
    }

    pub(super) fn work(&mut self, life: u64) {
        if self.aggregator.life != life {
            return;
        }
        if self.work_at.is_some_and(|at| at <= self.environment.now()) {
            self.work_at = None;
        }
        let Some(process) = self.aggregator.process.as_mut() else { return };
        match until_cut(|| process.work()) {
            Ok(Some(until)) => self.wake_worker(until.saturating_sub(self.environment.now()).max(1)),
            Ok(None) => {}
            Err(_cut) => self.cut_aggregator(),
        }
    }

    pub(super) fn wake_worker(&mut self, wait: Millis) {
        let at = self.environment.now() + wait;
        if self.work_at.is_none_or(|planned| planned > at) {
            self.work_at = Some(at);
            let life = self.aggregator.life;
            self.after(wait, Event::Work { life });
        }
    }

    /// The aggregator's process is gone, and its connections with it.
    pub(crate) fn cut_aggregator(&mut self) {
        self.environment.note(|| "aggregator: power cut".to_owned());
        self.report.cuts += 1;
        let life = self.aggregator.life;
        self.aggregator.stop();
        self.work_at = None;
        let its = |known: &Connection| known.aggregator.1 == life;
        let its: Vec<_> = self.connections.iter().filter(|(_, of)| its(of)).map(|(id, _)| *id).collect();
        its.into_iter().for_each(|connection| self.close(connection));
        // Longer than any insert hangs.
        let wait = crate::click_house::LONGEST_HANG + self.environment.between(100, 4_000);
        self.after(wait, Event::StartAggregator);
    }
}

// === impl World: the network ===

impl World {
    fn is_troubled(&self) -> bool {
        self.environment.chance(self.trouble)
    }

    /// How long a message is on its way.
    fn delay(&self) -> Millis {
        if self.is_troubled() { self.environment.between(50, 2_500) } else { self.environment.between(1, 40) }
    }
}

fn failed<T>(error: SpoolError) -> T {
    panic!("the spool failed: {error}")
}
