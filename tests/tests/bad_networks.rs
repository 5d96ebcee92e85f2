//! The link over networks that lose, delay, double, reorder and cut packets, or forget whom they belong to.
//!
//! A sample of each kind of weather; `PICKET_SOAK=1` runs many seeds and longer cuts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use picket_tests::bad_network::{BadNetwork, Traffic, Weather};
use picket_tests::event::TestEvent;
use picket_tests::installation::{ARRIVAL_PATIENCE, Installation, Project};
use picket_tests::ledger::{Ledger, Outcome};
use picket_tests::load::Load;
use picket_tests::oracle::assert_exactly_once;
use picket_tests::random::Random;
use picket_tests::relay::Relay;
use picket_tests::soak::sample_or_whole;

const CONNECTIONS: u64 = 2;
const POSTS_PER_SECOND: u32 = 50;
/// How long a new event may take once the weather is fair again.
const RECOVERY: Duration = Duration::from_secs(10);
/// How long a relay may take to notice that nobody answers, with the idle time of the link and its pings.
const SILENCE: Duration = Duration::from_secs(15);
/// How long it may take to be connected again once somebody answers: its longest wait between two tries is a second here.
const RECONNECTED: Duration = Duration::from_secs(5);
/// How long each kind of weather lasts.
const SPELL: Duration = Duration::from_secs(6);

fn millis(least: u64, most: u64) -> (Duration, Duration) {
    (Duration::from_millis(least), Duration::from_millis(most))
}

/// Each kind of weather: what it is called, what it is, how long it lasts, and whether packets must have been lost in it.
fn spells(blackhole: Duration) -> [(&'static str, Weather, Duration); 7] {
    let fair = Weather::default();
    [
        ("delay of 0 to 300 ms", Weather { delay: millis(0, 300), ..fair }, SPELL),
        ("20 % loss", Weather { loss_percent: 20, delay: millis(5, 20), ..fair }, SPELL),
        (
            "duplication and reordering",
            Weather { duplicate_percent: 5, reorder_percent: 10, delay: millis(5, 50), ..fair },
            SPELL,
        ),
        // 1 280 bytes of IPv6 packet less 40 of its header and 8 of UDP's.
        ("MTU 1280", Weather { largest: 1_232, ..fair }, SPELL),
        ("NAT rebinding", Weather { rebind_every: Duration::from_secs(5), ..fair }, SPELL * 2),
        (
            "all at once",
            Weather {
                delay: millis(0, 100),
                loss_percent: 5,
                duplicate_percent: 5,
                reorder_percent: 10,
                largest: 1_232,
                rebind_every: Duration::from_secs(5),
                ..fair
            },
            SPELL,
        ),
        ("blackhole", Weather { is_udp_blocked: true, is_tcp_blocked: true, ..fair }, blackhole),
    ]
}

struct Scene {
    installation: Installation,
    project: Project,
    relay: Relay,
    network: BadNetwork,
    ledger: Arc<Ledger>,
}

/// A relay that knows its aggregator only through a bad network.
fn scene(random: Random, uplink: &str) -> Scene {
    let mut installation = Installation::prepare("");
    let network = BadNetwork::before(installation.aggregator.link, random);
    installation.aggregator.advertise(&[network.address]);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let data_dir = installation.directory().join("relay");
    let mut relay = installation.join_relay("relay", data_dir);
    relay.configure(uplink);
    relay.start();
    relay.wait_until("is connected", ARRIVAL_PATIENCE, |status| status["uplink"]["connected_to"].is_string());
    Scene { installation, project, relay, network, ledger: Arc::default() }
}

impl Scene {
    /// One fresh event must be visible soon.
    fn assert_fresh_event_passes(&self, after: &str) {
        let since = Instant::now();
        let fresh = TestEvent::message(after);
        let ingest = Installation::ingest(&self.project, &self.relay);
        assert_eq!(ingest.post_noted(&fresh, &self.ledger), Outcome::Accepted);
        self.installation.aggregator.api().wait_for_event(&self.project.slug, fresh.id, RECOVERY);
        eprintln!("{after}: a new event was visible after {:?}; {:?}", since.elapsed(), self.network.traffic());
    }

    /// Everything that was answered 200 is stored and counted, once.
    fn check(mut self) {
        assert_exactly_once(&mut self.installation.aggregator, &mut [&mut self.relay], &self.ledger);
    }
}

/// Each fault of the spell has met packets: a fault that meets none proves nothing.
#[track_caller]
fn assert_happened(name: &str, weather: Weather, before: Traffic, after: Traffic) {
    let loses = weather.loss_percent > 0 || weather.is_udp_blocked;
    let kinds = [
        ("lost", loses, after.lost - before.lost),
        ("held", weather.delay.1 >= Duration::from_millis(20), after.held - before.held),
        ("doubled", weather.duplicate_percent > 0, after.doubled - before.doubled),
        ("overtaken", weather.reorder_percent > 0, after.overtook - before.overtook),
        // Since the beginning: what the link has learned of the path's MTU in one spell, it does not try again in a later one.
        ("too large", weather.largest > 0, after.too_large),
        ("rebound", !weather.rebind_every.is_zero(), after.rebound - before.rebound),
        ("passed on", !weather.is_udp_blocked, after.passed - before.passed),
    ];
    for (kind, is_wanted, packets) in kinds {
        assert!(!is_wanted || packets > 0, "{name}: no packet was {kind}, the fault was none");
    }
}

fn run_through_the_weather(seed: Random, blackhole: Duration) {
    // By QUIC only: that is what the network does badly.
    let scene = scene(seed, "transport = \"quic\"");
    let load = Load::start(&[scene.project.at(&scene.relay)], CONNECTIONS, POSTS_PER_SECOND, &scene.ledger);
    for (name, weather, lasts) in spells(blackhole) {
        let before = scene.network.traffic();
        scene.network.set(weather);
        // The sleep is the fault's duration; nothing is waited for.
        std::thread::sleep(lasts);
        let after = scene.network.traffic();
        assert_happened(name, weather, before, after);
        scene.network.set(Weather::default());
        scene.assert_fresh_event_passes(name);
    }
    load.stop();
    assert!(scene.ledger.accepted() > 500, "the load was none: {}", scene.ledger.accepted());
    scene.check();
}

#[test]
fn whatever_the_network_does_what_was_answered_200_is_counted_once_and_new_events_pass_soon_after() {
    let mut random = Random::seeded();
    run_through_the_weather(random.clone(), sample_or_whole(Duration::from_secs(20), Duration::from_secs(60)));
    for round in 1..sample_or_whole(1, 24) {
        eprintln!("round {round}");
        run_through_the_weather(Random::from(random.next_u64()), Duration::from_secs(60));
    }
}

#[test]
fn where_udp_is_dropped_the_relay_is_on_tcp_within_three_seconds_and_back_on_quic_when_it_can_be() {
    let mut scene = scene(Random::seeded(), "quic_probe_interval = \"1s\"");
    let by = |transport: &'static str| move |status: &serde_json::Value| status["uplink"]["transport"] == transport;
    scene.relay.wait_until("is on QUIC", ARRIVAL_PATIENCE, by("quic"));
    scene.relay.stop();
    scene.network.set(Weather { is_udp_blocked: true, ..Weather::default() });
    let started = Instant::now();
    scene.relay.launch(&picket_tests::aggregator::Start::default());
    scene.relay.wait_until("is on TCP", Duration::from_secs(10), by("tcp"));
    let took = started.elapsed();
    eprintln!("on TCP {took:?} after its start");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(scene.relay.logged().contains("a firewall probably drops it"), "the log does not name the cause");
    assert!(scene.relay.metrics().contains("uplink_transport{kind=\"tcp\"} 1"));
    scene.assert_fresh_event_passes("by TCP");

    let load = Load::start(&[scene.project.at(&scene.relay)], CONNECTIONS, POSTS_PER_SECOND, &scene.ledger);
    scene.network.set(Weather::default());
    scene.relay.wait_until("is back on QUIC", Duration::from_secs(5), by("quic"));
    scene.assert_fresh_event_passes("by QUIC again");
    load.stop();
    scene.check();
}

#[test]
fn a_relay_joins_by_tcp_where_udp_is_dropped() {
    let mut installation = Installation::prepare("");
    let network = BadNetwork::before(installation.aggregator.link, Random::seeded());
    installation.aggregator.advertise(&[network.address]);
    installation.aggregator.init();
    installation.aggregator.start();
    network.set(Weather { is_udp_blocked: true, ..Weather::default() });
    let started = Instant::now();
    let relay = installation.join_relay("relay", installation.directory().join("relay"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(relay);
}

/// One aggregator behind two addresses of which one dies: what a relay does is the same as with two aggregators.
#[test]
fn when_an_address_dies_the_relay_is_on_the_other_within_seconds_and_comes_back() {
    let random = Random::seeded();
    let mut installation = Installation::prepare("");
    let link = installation.aggregator.link;
    let networks = [BadNetwork::before(link, random.clone()), BadNetwork::before(link, random)];
    installation.aggregator.advertise(&[networks[0].address, networks[1].address]);
    installation.aggregator.init();
    installation.aggregator.start();
    let project = installation.create_project("Shop");
    let mut relay = installation.join_relay("relay", installation.directory().join("relay"));
    relay.configure("failback_interval = \"1s\"");
    relay.start();
    let connected = |status: &serde_json::Value| status["uplink"]["connected_to"].is_string();
    let status = relay.wait_until("is connected", ARRIVAL_PATIENCE, connected);
    let home = status["uplink"]["connected_to"].as_str().unwrap().to_owned();
    let (home_network, other) = match networks[0].address.to_string() == home {
        true => (&networks[0], networks[1].address.to_string()),
        false => (&networks[1], networks[0].address.to_string()),
    };
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&[project.at(&relay)], CONNECTIONS, POSTS_PER_SECOND, &ledger);

    home_network.set(Weather { is_udp_blocked: true, is_tcp_blocked: true, ..Weather::default() });
    let died = Instant::now();
    let at = |address: String| move |status: &serde_json::Value| status["uplink"]["connected_to"] == address.as_str();
    relay.wait_until("is on the other address", Duration::from_secs(15), at(other));
    eprintln!("on the other address {:?} after the first one died", died.elapsed());
    home_network.set(Weather::default());
    let back = Instant::now();
    relay.wait_until("is back", Duration::from_secs(10), at(home));
    eprintln!("back {:?} after it could be", back.elapsed());

    load.stop();
    assert_exactly_once(&mut installation.aggregator, &mut [&mut relay], &ledger);
}

/// As soon as nobody answers, and as soon as somebody does again: a process that is stopped (SIGSTOP) is silent, one that is killed
/// leaves a closed port.
#[test]
fn a_relay_notices_within_seconds_that_its_aggregator_is_silent_or_gone_and_that_it_is_back() {
    let mut scene = scene(Random::seeded(), "");
    let load = Load::start(&[scene.project.at(&scene.relay)], CONNECTIONS, POSTS_PER_SECOND, &scene.ledger);
    let is_connected = |status: &serde_json::Value| status["uplink"]["connected_to"].is_string();
    let is_alone = |status: &serde_json::Value| status["uplink"]["connected_to"].is_null();

    scene.installation.aggregator.process().pause();
    let since = Instant::now();
    scene.relay.wait_until("notices the silence", SILENCE, is_alone);
    eprintln!("silence was noticed after {:?}", since.elapsed());
    scene.installation.aggregator.process().resume();
    let since = Instant::now();
    scene.relay.wait_until("is back after the silence", RECONNECTED, is_connected);
    eprintln!("back {:?} after it spoke again", since.elapsed());
    scene.assert_fresh_event_passes("after a silence");

    scene.installation.aggregator.kill();
    let since = Instant::now();
    scene.relay.wait_until("notices the death", SILENCE, is_alone);
    eprintln!("a death was noticed after {:?}", since.elapsed());
    scene.installation.aggregator.start();
    let since = Instant::now();
    scene.relay.wait_until("is back after the death", RECONNECTED, is_connected);
    eprintln!("back {:?} after it served again", since.elapsed());
    scene.assert_fresh_event_passes("after a death");
    load.stop();
    scene.check();
}
