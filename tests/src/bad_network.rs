//! A network between relays and an aggregator that does badly what networks do badly, in this process: needs no root.
//!
//! ```text
//! relay ──UDP──▶ front ── loss, duplication, delay, reordering, size, blackhole ──▶ one socket a relay ──UDP──▶ aggregator
//!   └─────TCP──▶ front ── unless blocked ──▶ aggregator            └ a new one now and then: a NAT that forgets
//! ```
//!
//! Invariants: both directions suffer alike; what happens to which packet follows from the seed and the order of the packets;
//! what is on its way is bounded (20 000 packets), and beyond that it is lost, as in a router.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::port::free_address;
use crate::random::Random;

/// Packets that are being delayed.
const MAX_DELAYED: usize = 20_000;
/// Largest datagram there is.
const MAX_DATAGRAM: usize = 65_536;

/// A packet that is held for so long is late: on loopback one takes less than a tenth of it.
const NOTICEABLE: Duration = Duration::from_millis(10);

/// What happens to packets; percentages are of the packets of each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// The shortest and the longest time a packet takes.
    pub delay: (Duration, Duration),
    /// Lost packets.
    pub loss_percent: u64,
    /// Packets that come twice.
    pub duplicate_percent: u64,
    /// Packets that overtake those before them.
    pub reorder_percent: u64,
    /// Largest datagram payload that gets through; 0 for no bound.
    pub largest: usize,
    /// How often the NAT gives relays a new address; zero for never.
    pub rebind_every: Duration,
    /// Nothing gets through by UDP.
    pub is_udp_blocked: bool,
    /// Nothing gets through by TCP: connections stand still.
    pub is_tcp_blocked: bool,
}

/// The network, until it is dropped.
#[derive(Debug)]
pub struct BadNetwork {
    /// What relays are to be told that the aggregator's address is.
    pub address: SocketAddr,
    sky: Arc<Sky>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Sky {
    weather: Mutex<Weather>,
    random: Mutex<Random>,
    passed: AtomicU64,
    lost: AtomicU64,
    too_large: AtomicU64,
    held: AtomicU64,
    doubled: AtomicU64,
    overtook: AtomicU64,
    rebound: AtomicU64,
    delayed: AtomicUsize,
}

/// Counts of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Sent on, copies included.
    pub passed: u64,
    /// Not sent on.
    pub lost: u64,
    /// Of these, for their size.
    pub too_large: u64,
    /// Held for 10 ms or longer.
    pub held: u64,
    /// Sent on twice.
    pub doubled: u64,
    /// Sent on before one that had come earlier.
    pub overtook: u64,
    /// Addresses that the NAT has replaced.
    pub rebound: u64,
}

// === impl BadNetwork ===

impl BadNetwork {
    /// A network before `aggregator`; nothing bad happens in it yet.
    ///
    /// # Panics
    /// If there is no socket to be had.
    #[must_use]
    pub fn before(aggregator: SocketAddr, random: Random) -> Self {
        let address = free_address();
        let sky = Arc::new(Sky {
            weather: Mutex::new(Weather::default()),
            random: Mutex::new(random),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            held: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            overtook: AtomicU64::new(0),
            rebound: AtomicU64::new(0),
            delayed: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let shared = Arc::clone(&sky);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let udp = UdpSocket::bind(address).await.expect("a UDP socket");
                let tcp = TcpListener::bind(address).await.expect("a TCP socket");
                ready.send(()).expect("somebody waits");
                tokio::select! {
                    () = carry_udp(Arc::new(udp), aggregator, &shared) => {}
                    () = carry_tcp(&tcp, aggregator, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the network starts");
        Self { address, sky, stop: Some(stop), thread: Some(thread) }
    }

    /// Changes the weather from now on.
    pub fn set(&self, weather: Weather) {
        *self.sky.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What has passed so far by UDP.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        Traffic {
            passed: self.sky.passed.load(Ordering::Relaxed),
            lost: self.sky.lost.load(Ordering::Relaxed),
            too_large: self.sky.too_large.load(Ordering::Relaxed),
            held: self.sky.held.load(Ordering::Relaxed),
            doubled: self.sky.doubled.load(Ordering::Relaxed),
            overtook: self.sky.overtook.load(Ordering::Relaxed),
            rebound: self.sky.rebound.load(Ordering::Relaxed),
        }
    }
}

impl Drop for BadNetwork {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Sky ===

impl Sky {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn happens(&self, percent: u64) -> bool {
        percent > 0 && self.random.lock().unwrap_or_else(PoisonError::into_inner).below(100) < percent
    }

    fn span(&self, (least, most): (Duration, Duration)) -> Duration {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).span(least, most)
    }
}

/// Packets of one direction of one relay.
struct Lane {
    sky: Arc<Sky>,
    /// When the last packet that was not to overtake is due.
    last_due: Instant,
}

// === impl Lane ===

impl Lane {
    fn new(sky: &Arc<Sky>) -> Self {
        Self { sky: Arc::clone(sky), last_due: Instant::now() }
    }

    /// Lets the weather do with a packet what it will.
    fn send(&mut self, packet: &[u8], through: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        let weather = self.sky.weather();
        let is_too_large = weather.largest > 0 && packet.len() > weather.largest;
        if weather.is_udp_blocked || is_too_large || self.sky.happens(weather.loss_percent) {
            self.sky.lost.fetch_add(1, Ordering::Relaxed);
            self.sky.too_large.fetch_add(is_too_large.into(), Ordering::Relaxed);
            return;
        }
        let copies = if self.sky.happens(weather.duplicate_percent) { 2 } else { 1 };
        self.sky.doubled.fetch_add(copies - 1, Ordering::Relaxed);
        for _ in 0..copies {
            let span = self.sky.span(weather.delay);
            let due = Instant::now() + span;
            let overtakes = self.sky.happens(weather.reorder_percent);
            self.sky.held.fetch_add((span >= NOTICEABLE).into(), Ordering::Relaxed);
            self.sky.overtook.fetch_add((overtakes && due < self.last_due).into(), Ordering::Relaxed);
            let due = if overtakes { due } else { due.max(self.last_due) };
            self.last_due = due.max(self.last_due);
            self.deliver(packet.to_vec(), due, Arc::clone(through), to);
        }
    }

    fn deliver(&self, packet: Vec<u8>, due: Instant, through: Arc<UdpSocket>, to: Option<SocketAddr>) {
        let sky = Arc::clone(&self.sky);
        if sky.delayed.fetch_add(1, Ordering::Relaxed) >= MAX_DELAYED {
            sky.delayed.fetch_sub(1, Ordering::Relaxed);
            sky.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tokio::spawn(async move {
            sleep_until(due).await;
            sky.delayed.fetch_sub(1, Ordering::Relaxed);
            // The receiver may be away; then the packet is lost.
            let sent = match to {
                Some(to) => through.send_to(&packet, to).await,
                None => through.send(&packet).await,
            };
            let counter = if sent.is_ok() { &sky.passed } else { &sky.lost };
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// How a relay looks from the aggregator's side.
struct Mapping {
    socket: Arc<UdpSocket>,
    made: Instant,
    back: AbortHandle,
    lane: Lane,
}

async fn carry_udp(front: Arc<UdpSocket>, aggregator: SocketAddr, sky: &Arc<Sky>) {
    let mut mappings: HashMap<SocketAddr, Mapping> = HashMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An earlier packet may have met nobody.
        let Ok((length, relay)) = front.recv_from(&mut buffer).await else { continue };
        let rebind_every = sky.weather().rebind_every;
        let is_old = |mapping: &Mapping| !rebind_every.is_zero() && mapping.made.elapsed() >= rebind_every;
        if mappings.get(&relay).is_none_or(is_old) {
            let mapping = map(&front, relay, aggregator, sky).await;
            if let Some(old) = mappings.insert(relay, mapping) {
                // What comes to the old address finds nobody any more.
                old.back.abort();
                sky.rebound.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(mapping) = mappings.get_mut(&relay) {
            mapping.lane.send(&buffer[..length], &mapping.socket, None);
        }
    }
}

async fn map(front: &Arc<UdpSocket>, relay: SocketAddr, aggregator: SocketAddr, sky: &Arc<Sky>) -> Mapping {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP socket");
    socket.connect(aggregator).await.expect("an address on loopback");
    let socket = Arc::new(socket);
    let (front, from, mut lane) = (Arc::clone(front), Arc::clone(&socket), Lane::new(sky));
    let back = tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match from.recv(&mut buffer).await {
                Ok(length) => lane.send(&buffer[..length], &front, Some(relay)),
                // Nobody listens there at the moment; a real host's refusal would not pass a NAT either.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    Mapping { socket, made: Instant::now(), back: back.abort_handle(), lane: Lane::new(sky) }
}

async fn carry_tcp(front: &TcpListener, aggregator: SocketAddr, sky: &Arc<Sky>) {
    loop {
        let Ok((mut near, _)) = front.accept().await else { continue };
        let sky = Arc::clone(sky);
        tokio::spawn(async move {
            if sky.weather().is_tcp_blocked {
                // Accepted by the kernel; no byte follows, as behind a firewall that drops.
                return std::future::pending().await;
            }
            let mut far = TcpStream::connect(aggregator).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ())
        });
    }
}
