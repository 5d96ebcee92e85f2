//! A ClickHouse server that can't be relied on: a proxy before a sound one, which does to inserts what a seeded script says.
//!
//! ```text
//! aggregator ──▶ proxy ──▶ server
//!                ├ pass
//!                ├ commit, then drop the reply
//!                ├ 500, without or after forwarding
//!                ├ hang: forwarded, and no reply; or forwarded only when the aggregator has given up
//!                └ reset in the middle of the body
//! ```
//!
//! One request a connection. Everything but inserts passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::random::Random;

/// What may be done to an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and the connection closed without an answer.
    DropReply,
    /// It is answered 500 and not forwarded.
    RefuseBefore,
    /// It is done and answered 500.
    RefuseAfter,
    /// It is done and not answered.
    Hang,
    /// It is not answered, and done only after the aggregator has given up.
    Late,
    /// Half of it is forwarded, then both connections are reset.
    Reset,
}

/// All of them.
pub const FAULTS: [Fault; 6] =
    [Fault::DropReply, Fault::RefuseBefore, Fault::RefuseAfter, Fault::Hang, Fault::Late, Fault::Reset];

/// Which inserts meet a fault.
#[derive(Debug)]
enum Script {
    Sound,
    /// One in so many, chosen by the generator.
    OneIn(u64, Random),
    /// Every one.
    Always(Fault),
}

#[derive(Debug)]
struct Shared {
    server: SocketAddr,
    script: Mutex<Script>,
    faults: AtomicU64,
    /// How long a hanging insert is held before it is forwarded late.
    hold: Duration,
    stop: AtomicBool,
}

/// The proxy; its thread ends when it is dropped.
#[derive(Debug)]
pub struct FaultyClickHouse {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl FaultyClickHouse {
    /// Listens before `server`, sound at first. `hold` is longer than the aggregator waits for an insert.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(server: SocketAddr, hold: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (script, faults, stop) = (Mutex::new(Script::Sound), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { server, script, faults, hold, stop });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, Arc::clone(&serving)) else { return };
                // A connection that breaks is what this is about.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// From now on one insert in `chance` meets a fault.
    pub fn be_faulty(&self, chance: u64, random: Random) {
        self.follow(Script::OneIn(chance, random));
    }

    /// From now on every insert meets this fault.
    pub fn always(&self, fault: Fault) {
        self.follow(Script::Always(fault));
    }

    /// From now on everything passes.
    pub fn be_sound(&self) {
        self.follow(Script::Sound);
    }

    /// How many inserts have met a fault.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    fn follow(&self, script: Script) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }
}

impl Drop for FaultyClickHouse {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread, if it still runs.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn fault(&self, request: &[u8]) -> Option<Fault> {
        let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
        if !String::from_utf8_lossy(line).to_uppercase().contains("QUERY=INSERT") {
            return None;
        }
        let fault = match &mut *self.script.lock().unwrap_or_else(PoisonError::into_inner) {
            Script::Sound => None,
            Script::OneIn(chance, random) => {
                let is_hit = random.below(*chance) == 0;
                is_hit.then(|| FAULTS[usize::try_from(random.below(FAULTS.len() as u64)).unwrap_or_default()])
            }
            Script::Always(fault) => Some(*fault),
        };
        self.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    match shared.fault(&request) {
        None => client.write_all(&forward(shared, &request)?),
        Some(Fault::DropReply) => forward(shared, &request).map(drop),
        Some(Fault::RefuseBefore) => refuse(&mut client),
        Some(Fault::RefuseAfter) => {
            forward(shared, &request)?;
            refuse(&mut client)
        }
        Some(Fault::Hang) => {
            forward(shared, &request)?;
            // Until the aggregator closes.
            client.read(&mut [0]).map(drop)
        }
        Some(Fault::Late) => {
            // The sleep is the fault: the aggregator gives up meanwhile.
            thread::sleep(shared.hold);
            forward(shared, &request).map(drop)
        }
        Some(Fault::Reset) => {
            let mut server = TcpStream::connect(shared.server)?;
            server.write_all(&request[..request.len() / 2])?;
            server.shutdown(Shutdown::Both)?;
            client.shutdown(Shutdown::Both)
        }
    }
}

fn refuse(client: &mut TcpStream) -> std::io::Result<()> {
    let body = "upstream broke";
    let length = body.len();
    write!(client, "HTTP/1.1 500 Broken\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// The server's whole answer, which says that the connection closes.
fn forward(shared: &Shared, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(shared.server)?;
    server.write_all(&closing(request))?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(closing(&answer))
}

/// The message with a header that ends the connection after it.
fn closing(message: &[u8]) -> Vec<u8> {
    let Some(end) = message.windows(4).position(|window| window == b"\r\n\r\n") else { return message.to_vec() };
    [&message[..end], b"\r\nconnection: close", &message[end..]].concat()
}

fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 64 * 1024];
    while !is_whole(&request) {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    Ok(request)
}

/// Whether head and body are there, the body's length given or in chunks.
fn is_whole(request: &[u8]) -> bool {
    let Some(head_end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..head_end]).to_lowercase();
    let body = &request[head_end + 4..];
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n") && ends_in_its_last_chunk(body);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    body.len() >= length.map_or(0, |length| length.trim().parse().unwrap_or(0))
}

fn ends_in_its_last_chunk(mut body: &[u8]) -> bool {
    loop {
        let Some(line) = body.windows(2).position(|window| window == b"\r\n") else { return false };
        let size = std::str::from_utf8(&body[..line]).ok().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
        match size {
            Some(0) => return true,
            Some(size) if body.len() > line + 2 + size + 2 => body = &body[line + 2 + size + 2..],
            _ => return false,
        }
    }
}
