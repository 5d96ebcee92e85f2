//! What goes wrong, and how often. Each run draws which kinds it has, so that some runs have much of one and nothing of another.

use picket_common::ids::RelayId;

use crate::environment::{Environment, Millis};
use crate::link::{Down, Standing};
use crate::relay::{Relay, RelayFlaw};
use crate::world::{Event, World};

/// Most relays, with the clones.
const MAX_RELAYS: usize = 4;
/// Most faults of a kind in a run.
const MOST_OF_A_KIND: u64 = 4;
/// Steps after which a power cut comes at the latest.
const LONGEST_FUSE: u64 = 14;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A relay's power is cut after some steps.
    CutRelay,
    /// The aggregator's power is cut after some steps.
    CutAggregator,
    /// A connection breaks, and each end notices when it does.
    BreakConnection,
    /// No relay gets through for a while.
    CutOff,
    /// `ClickHouse` is away for a while.
    ClickHouseAway,
    /// Other writers push all tokens out of the window.
    TokensForgotten,
    /// A relay is away for long.
    RelayAway,
    /// A relay's disk is copied, and another host starts on it. In no run yet: a copy that is greeted while its original still sends
    /// can lose a batch to it (decision 21), and the runs say so.
    Clone,
    /// Somebody keeps a copy of a relay's disk.
    Snapshot,
    /// A relay's disk is turned back to a copy.
    TurnBack,
}

// === impl Fault ===

impl Fault {
    const ALL: [Self; 9] = [
        Self::CutRelay,
        Self::CutAggregator,
        Self::BreakConnection,
        Self::CutOff,
        Self::ClickHouseAway,
        Self::TokensForgotten,
        Self::RelayAway,
        Self::Snapshot,
        Self::TurnBack,
    ];

    /// What goes wrong in a run until `horizon`, and when.
    #[must_use]
    pub fn of_a_run(environment: &Environment, horizon: Millis) -> Vec<(Millis, Self)> {
        let mut faults = Vec::new();
        for fault in Self::ALL {
            if environment.chance(500) {
                let count = environment.between(1, MOST_OF_A_KIND);
                faults.extend((0..count).map(|_| (environment.between(0, horizon), fault)));
            }
        }
        faults
    }
}

// === impl World ===

impl World {
    pub(crate) fn go_wrong(&mut self, fault: Fault) {
        let environment = self.environment.clone();
        environment.note(|| format!("fault: {fault:?}"));
        let relay = usize::try_from(environment.between(0, self.relays.len() as u64 - 1)).unwrap_or(0);
        let fuse = u32::try_from(environment.between(0, LONGEST_FUSE)).unwrap_or(0);
        let now = environment.now();
        match fault {
            Fault::CutRelay => match self.relays[relay].process {
                Some(_) if fuse == 0 => self.cut_relay(relay),
                Some(_) => self.relays[relay].fuse.light(fuse),
                None => {}
            },
            Fault::CutAggregator => match self.aggregator.process {
                Some(_) if fuse == 0 => self.cut_aggregator(),
                Some(_) => self.aggregator.fuse.light(fuse),
                None => {}
            },
            Fault::BreakConnection => self.break_connection(),
            Fault::CutOff => {
                self.cut_off_until = now + environment.between(500, 15_000);
                let open: Vec<_> = self.connections.iter().filter(|(_, of)| !of.is_broken).map(|(id, _)| *id).collect();
                for connection in open {
                    self.hang_up(connection);
                    self.after(environment.between(1, 3_000), Event::ToRelay(connection, Down::Closed));
                }
            }
            Fault::ClickHouseAway => {
                let until = now + environment.between(200, 12_000);
                self.lock().stay_away(until);
            }
            Fault::TokensForgotten => self.lock().forget_tokens(now),
            Fault::RelayAway => {
                if self.relays[relay].process.is_some() {
                    self.cut_relay(relay);
                    self.lock().forget_tokens(now);
                }
            }
            Fault::Clone => self.clone_relay(relay),
            Fault::Snapshot => {
                let copy = self.relays[relay].disk.borrow().copied(&environment);
                self.snapshots.push((relay, copy));
            }
            Fault::TurnBack => self.turn_back(),
        }
    }

    fn break_connection(&mut self) {
        let open: Vec<_> = self.connections.iter().filter(|(_, of)| !of.is_broken).map(|(id, _)| *id).collect();
        let Some(last) = open.len().checked_sub(1) else { return };
        let chosen = self.environment.between(0, last as u64);
        if let Some(connection) = usize::try_from(chosen).ok().and_then(|at| open.get(at)) {
            self.hang_up(*connection);
            let wait = self.environment.between(1, 3_000);
            self.after(wait, Event::ToRelay(*connection, Down::Closed));
        }
    }

    /// A second host with the disk of the first, and its certificate.
    fn clone_relay(&mut self, relay: usize) {
        if self.relays.len() >= MAX_RELAYS {
            return;
        }
        let contents = self.relays[relay].disk.borrow().copied(&self.environment);
        let relay_id: RelayId = self.relays[relay].relay_id;
        self.relays.push(Relay::new(relay_id, contents, RelayFlaw::None));
        let (clone, now) = (self.relays.len() - 1, self.environment.now());
        self.after(self.environment.between(10, 5_000), Event::StartRelay(clone));
        self.post_some(clone, now + 10_000, 6);
    }

    /// The host is stopped, its disk replaced by a copy, and started again. That takes longer than anything is on its way.
    fn turn_back(&mut self) {
        let Some((relay, contents)) = self.snapshots.pop() else { return };
        let kept: Vec<_> = contents.events().collect();
        let present: Vec<_> = self.relays[relay].disk.borrow().present().events().collect();
        for event in present.into_iter().filter(|event| !kept.contains(event)) {
            self.truth.given_up(event);
        }
        for known in self.connections.values_mut().filter(|known| known.relay.0 == relay) {
            known.standing = Standing::Closed;
        }
        if self.relays[relay].process.is_some() {
            self.cut_relay(relay);
        }
        self.relays[relay].replace_disk(contents);
    }
}
