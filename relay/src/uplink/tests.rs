//! The uplink against an aggregator that does as the test says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use picket_common::config::{ByteSize, Span};
use picket_common::identity::Validity;
use picket_common::ids::{EventId, ProjectId, PublicKey};

use picket_common::project_config::ConfigSnapshot;
use picket_common::record::{Record, RecordHeader, RecordKind};
use picket_common::wire::control::Window;
use picket_common::wire::{CloseCode, FromAggregator, FromRelay, NackReason};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::fake_aggregator::{Authority, FakeAggregator, soon};
use super::*;
use crate::identity_store::RelayIdentity;
use crate::spool::{Committer, SpoolConfig};

/// A relay's half: a spool, and an uplink that can be started on it.
pub(super) struct Relay {
    pub(super) directory: TempDir,
    pub(super) spool: Spool,
    pub(super) projects: Projects,
    pub(super) committer: Committer,
}

pub(super) struct Running {
    pub(super) status: watch::Receiver<UplinkStatus>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

fn open(directory: &TempDir) -> (Spool, Committer) {
    let no_linger = SpoolConfig { linger: Span::millis(0), ..SpoolConfig::default() };
    let config = SpoolConfig { min_free_bytes: ByteSize::bytes(0), ..no_linger };
    Spool::open(&directory.path().join("spool"), &config, [1; 16]).unwrap()
}

impl Relay {
    pub(super) async fn with_batches(count: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (spool, committer) = open(&directory);
        let projects = Projects::open(spool.clone()).unwrap();
        let relay = Self { directory, spool, projects, committer };
        for number in 0..count {
            relay.append(number).await;
        }
        relay
    }

    /// Each append is waited for, so each is a batch.
    pub(super) async fn append(&self, number: u64) {
        let header = RecordHeader {
            kind: RecordKind::Envelope,
            project_id: ProjectId::new(1),
            public_key: PublicKey::from_random([7; 16]),
            received_at: Timestamp::from_millis(number),
            event_id: Some(EventId::from_random([9; 16])),
            chunk: None,
            blobs: Vec::new(),
        };
        self.spool.append(Record { header, body: format!("body {number}").into() }).await.unwrap();
    }

    pub(super) async fn restarted(self) -> Self {
        let Self { directory, spool, projects, committer } = self;
        drop((spool, projects));
        committer.close().await;
        let (spool, committer) = open(&directory);
        let projects = Projects::open(spool.clone()).unwrap();
        Self { directory, spool, projects, committer }
    }

    /// The serial number of the certificate on disk, which must belong to the key there.
    fn serial(&self) -> String {
        crate::identity_store::load_identity(self.directory.path()).unwrap();
        let text = std::fs::read_to_string(self.directory.path().join("identity/key.pem")).unwrap();
        picket_common::identity::serial_of(&picket_common::identity::certificate_from_pem(&text).unwrap()).unwrap()
    }

    pub(super) fn start(&self, identity: RelayIdentity) -> Running {
        self.start_with(identity, UplinkConfig::default())
    }

    pub(super) fn start_with(&self, identity: RelayIdentity, config: UplinkConfig) -> Running {
        let config = UplinkConfig {
            backoff_min: Span::millis(1),
            backoff_max: Span::millis(20),
            statistics_interval: Span::millis(50),
            ..config
        };
        let (sender, status) = watch::channel(UplinkStatus::default());
        let stop = CancellationToken::new();
        let parts = UplinkParts {
            identity: LiveIdentity::new(identity, self.directory.path().to_owned()),
            data_dir: self.directory.path().to_owned(),
            spool: self.spool.clone(),
            projects: self.projects.clone(),
            quotas: Quotas::default(),
            config,
            status: sender,
        };
        let task = tokio::spawn(run(parts, &mut Registry::default(), stop.clone()));
        Running { status, stop, task }
    }
}

impl Running {
    pub(super) async fn until(&mut self, is_so: impl Fn(&UplinkStatus) -> bool) {
        soon(self.status.wait_for(|status| is_so(status))).await.unwrap();
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        soon(self.task).await.unwrap();
    }
}

/// Waits until the spool holds so many records; acknowledgements show in the status.
pub(super) async fn until_spooled(relay: &Relay, running: &mut Running, records: u64) {
    let spool = relay.spool.clone();
    running.until(|_| spool.usage().records == records).await;
}

#[tokio::test]
async fn an_acknowledged_batch_leaves_the_spool_and_new_ones_follow_at_once() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(2).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    assert_eq!(aggregator.hello().await.spool_id, relay.spool.id());
    for sequence in 1..=2 {
        let batch = aggregator.batch().await;
        assert_eq!(batch.header.first.get(), sequence);
        assert_eq!(crc32c::crc32c(&batch.payload), batch.header.crc32c);
        batch.ack();
    }
    until_spooled(&relay, &mut running, 0).await;
    relay.append(3).await;
    aggregator.batch().await.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn what_has_no_answer_is_sent_again_in_the_same_bytes_after_a_reconnect() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(3).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    let mut received = [aggregator.batch().await, aggregator.batch().await, aggregator.batch().await];
    received.sort_by_key(|batch| batch.header.first);
    let [first, second, third] = received;
    let unanswered = (second.header.clone(), second.payload.clone());
    // Out of order: the last first.
    third.ack();
    first.ack();
    until_spooled(&relay, &mut running, 1).await;
    aggregator.hello().await;
    aggregator.hang_up(CloseCode::Done, "the aggregator is restarting");
    aggregator.hello().await;
    let again = aggregator.batch().await;
    assert_eq!((again.header.clone(), again.payload.clone()), unanswered);
    again.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_batch_that_was_put_off_comes_again_and_holds_nobody_up() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    aggregator.set_window(Window { batches: 1, bytes: 1_000_000 });
    let relay = Relay::with_batches(2).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    let first = aggregator.batch().await;
    assert_eq!(first.header.first.get(), 1);
    first.nack(NackReason::Retry);
    let second = aggregator.batch().await;
    assert_eq!(second.header.first.get(), 2);
    second.ack();
    let again = aggregator.batch().await;
    assert_eq!(again.header.first.get(), 1);
    again.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_batch_refused_for_good_is_set_aside() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(2).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    aggregator.batch().await.nack(NackReason::Corrupt);
    aggregator.batch().await.nack(NackReason::Overlap);
    until_spooled(&relay, &mut running, 0).await;
    assert_eq!(relay.spool.usage().quarantined_batches, 2);
    let tombstone = aggregator.batch().await;
    assert!(tombstone.header.is_tombstone && tombstone.payload.is_empty());
    assert_eq!(relay.spool.usage().batches, 1);
    tombstone.ack();
    let spool = relay.spool.clone();
    running.until(|_| spool.usage().batches == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn the_window_is_never_exceeded() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    aggregator.set_window(Window { batches: 2, bytes: 1_000_000 });
    let relay = Relay::with_batches(6).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    let mut held = std::collections::VecDeque::new();
    for _ in 0..6 {
        held.push_back(aggregator.batch().await);
        if held.len() == 2 {
            // Whatever else comes must wait for an answer. A third batch would be on its way by now.
            tokio::task::yield_now().await;
            assert!(aggregator.batches.try_recv().is_err());
            assert!(running.status.borrow().in_flight_batches <= 2);
            held.pop_front().unwrap().ack();
        }
    }
    held.into_iter().for_each(super::fake_aggregator::ReceivedBatch::ack);
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_configuration_is_stored_and_named_in_the_next_hello() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(0).await;
    let running = relay.start(authority.relay(&[aggregator.address]));
    assert_eq!(aggregator.hello().await.config_revision, 0);
    aggregator.say(FromAggregator::ProjectConfigs(ConfigSnapshot { revision: 9, projects: Vec::new() })).await;
    aggregator.say(FromAggregator::Goodbye { reason: "test".to_owned() }).await;
    assert_eq!(aggregator.hello().await.config_revision, 9);
    running.stop().await;
    assert_eq!(relay.restarted().await.projects.revision(), 9);
}

#[tokio::test]
async fn what_the_aggregator_says_it_has_is_not_sent() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    aggregator.set_stored_up_to(2);
    let relay = Relay::with_batches(3).await;
    // So that the batches may have been sent before the restart.
    relay.spool.note_session(None).unwrap();
    let relay = relay.restarted().await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    let batch = aggregator.batch().await;
    assert_eq!(batch.header.first.get(), 3);
    batch.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_spool_that_was_turned_back_loses_nothing() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    // The aggregator has sequences that this spool, opened empty and never connected, can't have sent.
    aggregator.set_stored_up_to(2);
    let relay = Relay::with_batches(3).await;
    let old = relay.spool.id();
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    assert_eq!(aggregator.hello().await.spool_id, old);
    let spool_id = aggregator.hello().await.spool_id;
    assert_ne!(spool_id, old);
    for _ in 0..3 {
        let batch = aggregator.batch().await;
        assert_eq!(batch.header.spool_id, spool_id);
        batch.ack();
    }
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_spool_that_was_turned_back_and_restarted_before_any_contact_loses_nothing() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    aggregator.set_stored_up_to(2);
    let relay = Relay::with_batches(3).await.restarted().await;
    let old = relay.spool.id();
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    for _ in 0..3 {
        let batch = aggregator.batch().await;
        assert_ne!(batch.header.spool_id, old);
        batch.ack();
    }
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn statistics_are_reported() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(1).await;
    let running = relay.start(authority.relay(&[aggregator.address]));
    let report = aggregator.report(|report| matches!(report, FromRelay::Statistics(_))).await;
    assert!(matches!(report, FromRelay::Statistics(statistics) if statistics.accepted_total == 1));
    running.stop().await;
}

#[tokio::test]
async fn a_relay_of_another_authority_is_told_so_and_keeps_spooling() {
    let aggregator = FakeAggregator::start(&Arc::new(Authority::new()));
    let relay = Relay::with_batches(1).await;
    let mut running = relay.start(Authority::new().relay(&[aggregator.address]));
    running.until(|status| status.last_error.as_ref().is_some_and(|error| error.contains("not the aggregator"))).await;
    relay.append(2).await;
    assert_eq!(relay.spool.usage().records, 2);
    running.stop().await;
}

#[tokio::test]
async fn a_revoked_relay_waits_long_and_says_what_to_do() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(1).await;
    let mut running = relay.start(authority.relay(&[aggregator.address]));
    aggregator.hello().await;
    aggregator.hang_up(CloseCode::NotAllowed, "this relay was revoked");
    running
        .until(|status| {
            status.last_error.as_ref().is_some_and(|error| error.contains("revoked") && error.contains("join it anew"))
        })
        .await;
    // Stopping ends the wait at once.
    running.stop().await;
}

#[tokio::test]
async fn the_next_aggregator_is_tried_when_the_first_is_away() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(1).await;
    let mut identity = authority.relay(&[aggregator.address]);
    // A name that never resolves fails faster than a port that never answers.
    identity.relay.aggregators.insert(0, "picket.invalid:7443".to_owned());
    let mut running = relay.start(identity);
    aggregator.batch().await.ack();
    until_spooled(&relay, &mut running, 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_stopping_relay_waits_for_the_answers_in_flight() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(1).await;
    let running = relay.start(authority.relay(&[aggregator.address]));
    let batch = aggregator.batch().await;
    running.stop.cancel();
    batch.ack();
    soon(running.task).await.unwrap();
    assert_eq!(relay.spool.usage().records, 0);
}

/// The signing request of a relay that asks to renew.
async fn asked(aggregator: &mut FakeAggregator) -> String {
    match aggregator.report(|report| matches!(report, FromRelay::Renew { .. })).await {
        FromRelay::Renew { csr_pem } => csr_pem,
        other => panic!("{other:?}"),
    }
}

/// A certificate that is past two thirds of its life and good for an hour.
fn due() -> Validity {
    let (hour, now) = (std::time::Duration::from_secs(3600), Timestamp::now());
    Validity { not_before: now.minus(hour * 3), not_after: now.plus(hour) }
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_and_the_next_connection_shows_the_new_one() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(1).await;
    let identity = authority.relay_valid(&[aggregator.address], due());
    let relay_id = identity.relay.relay_id;
    store_whole(relay.directory.path(), &identity.relay, &authority);
    let mut running = relay.start(identity);
    aggregator.hello().await;
    let csr_pem = asked(&mut aggregator).await;
    let before = relay.serial();
    // What is in flight is answered before the connection is given up.
    let batch = aggregator.batch().await;
    aggregator.say(FromAggregator::Renewed { certificate_pem: authority.certify(&csr_pem, relay_id) }).await;
    batch.ack();
    aggregator.hello().await;
    until_spooled(&relay, &mut running, 0).await;
    assert_ne!(relay.serial(), before, "it is on disk");
    let shown = aggregator.relay_certificate();
    assert_eq!(picket_common::identity::serial_of(&shown).unwrap(), relay.serial());
    running.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_not_for_the_new_key_is_not_taken_and_another_is_asked_for() {
    let authority = Arc::new(Authority::new());
    let mut aggregator = FakeAggregator::start(&authority);
    let relay = Relay::with_batches(0).await;
    let identity = authority.relay_valid(&[aggregator.address], due());
    let relay_id = identity.relay.relay_id;
    store_whole(relay.directory.path(), &identity.relay, &authority);
    let before = relay.serial();
    let running = relay.start(identity);
    aggregator.hello().await;
    asked(&mut aggregator).await;
    let foreign_key = crate::key_request::KeyRequest::generate().unwrap();
    let certificate_pem = authority.certify(foreign_key.csr_pem(), relay_id);
    aggregator.say(FromAggregator::Renewed { certificate_pem }).await;
    // It asks once more, over the same connection.
    asked(&mut aggregator).await;
    assert_eq!(relay.serial(), before);
    running.stop().await;
}

/// Lays an identity out on disk, as joining does.
fn store_whole(data_dir: &std::path::Path, relay: &crate::identity_store::RelayDescription, authority: &Authority) {
    let key = crate::key_request::KeyRequest::generate().unwrap();
    let (key_pem, certificate_pem) = (key.key_pem(), authority.certify(key.csr_pem(), relay.relay_id));
    let identity = crate::identity_store::NewIdentity {
        key_pem: &key_pem,
        certificate_pem: &certificate_pem,
        authority_pem: authority.pem(),
        relay,
    };
    crate::identity_store::store_identity(data_dir, &identity).unwrap();
}
