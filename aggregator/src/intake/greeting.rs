//! The beginning of a session, before any batch: whose spool it is, whether it is the spool that was here or a copy of it, how far
//! it is stored, the welcome, and the relay's word that it has written the session down.

use std::time::Duration;

use picket_common::ids::{RelayId, Sequence, SpoolId};
use picket_common::timestamp::Timestamp;
use picket_common::wire::control::{MAX_FORMER_SPOOLS, Window};
use picket_common::wire::lineage::{Greeting, Lineage, SessionId};
use picket_common::wire::{
    CloseCode, FrameError, FromAggregator, FromRelay, MAX_CONTROL_FRAME, PROTOCOL_VERSION, read_frame, write_frame,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::timeout;
use tracing::warn;

use super::Shared;
use super::close::Close;
use super::session::StoredSequences;
use super::window::window;
use crate::journal::{Journal, JournalError, SessionEpoch, SpoolClaim};

/// How long a relay may take to write the session down. Before it deletes what it hears is stored, which may be much.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a relay may take to hear that its spool was forked.
const FORKED_TIMEOUT: Duration = Duration::from_secs(2);

/// What a hello says of the spool.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) relay_id: RelayId,
    pub(super) spool_id: SpoolId,
    pub(super) lineage: Option<Lineage>,
    pub(super) former: Vec<SpoolId>,
}

/// What the relay is told of its spool.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) stored: StoredSequences,
    /// Its former ids, and up to where each is stored.
    pub(super) former: Vec<(SpoolId, Sequence)>,
    /// How much may be in flight at first.
    pub(super) window: Window,
    /// To be written down and confirmed; none for a relay that knows nothing of sessions.
    pub(super) offered: Option<SessionId>,
}

/// Makes sure that the spool and its former ids are this relay's, and that it is no copy. The relay of a copy is told where to fork.
pub(super) async fn greet(
    shared: &Shared,
    introduction: Introduction,
    (send, receive): (&mut (impl AsyncWrite + Unpin), &mut (impl AsyncRead + Unpin)),
) -> Result<Greeted, Close> {
    let Introduction { relay_id, spool_id, lineage, former } = introduction;
    if former.len() > MAX_FORMER_SPOOLS {
        return Err(Close::new(CloseCode::Protocol, "too many former ids of the spool"));
    }
    let stored = claim(shared, relay_id, spool_id).await?;
    let window = window(&shared.intake.settings.borrow(), shared.intake.journal.backlog());
    let mut greeted = Greeted { stored, former: Vec::with_capacity(former.len()), window, offered: None };
    for spool in former {
        greeted.former.push((spool, claim(shared, relay_id, spool).await?.up_to));
    }
    let Some(lineage) = lineage else { return Ok(greeted) };
    let session = random_session()?;
    let judged = ask(shared, relay_id, spool_id, move |journal| journal.greet_spool(spool_id, &lineage, session));
    match judged.await? {
        Greeting::Welcome => greeted.offered = Some(session),
        Greeting::Forked { at } => {
            shared.intake.metrics.spools_forked.inc();
            warn!(
                relay = %relay_id, spool = %spool_id, after = %at,
                "a relay's data directory was copied or turned back; it goes on under a new spool id. Look for the other copy"
            );
            // Closing the connection would throw away what has not arrived, so the relay is left to close it.
            let told = async {
                write_frame(send, &FromAggregator::Forked { at }, MAX_CONTROL_FRAME).await?;
                Ok::<_, FrameError>(receive.read(&mut [0]).await?)
            };
            let _ = timeout(FORKED_TIMEOUT, told).await;
            return Err(Close::new(CloseCode::Forked, "the spool was copied or turned back"));
        }
    }
    Ok(greeted)
}

/// Says welcome.
pub(super) async fn welcome(greeted: &Greeted, send: &mut (impl AsyncWrite + Unpin)) -> Result<(), Close> {
    let welcome = FromAggregator::Welcome {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server_time: Timestamp::now(),
        window: greeted.window,
        stored_up_to: greeted.stored.up_to,
        highest_stored: Some(greeted.stored.highest),
        session: greeted.offered,
        former_stored_up_to: greeted.former.iter().map(|(_, up_to)| *up_to).collect(),
    };
    let written = write_frame(send, &welcome, MAX_CONTROL_FRAME).await;
    written.map_err(|error| Close::new(CloseCode::Protocol, format!("the welcome can't be sent: {error}")))
}

/// Waits until the relay says that it has written the session down, and notes it. No batch is taken before.
pub(super) async fn confirmed(
    shared: &Shared,
    relay_id: RelayId,
    spool_id: SpoolId,
    offered: SessionId,
    receive: &mut (impl AsyncRead + Unpin),
) -> Result<SessionEpoch, Close> {
    let heard = timeout(CONFIRM_TIMEOUT, read_frame(receive, MAX_CONTROL_FRAME)).await;
    match heard {
        Ok(Ok(FromRelay::Confirm { session })) if session == offered => {}
        Ok(Ok(_)) => return Err(Close::new(CloseCode::Protocol, "the session was not confirmed")),
        Ok(Err(error)) => return Err(Close::new(CloseCode::Protocol, format!("no confirmation was read: {error}"))),
        Err(_) => return Err(Close::new(CloseCode::Protocol, "the session was not confirmed in time")),
    }
    let noted = ask(shared, relay_id, spool_id, move |journal| journal.confirm_session(spool_id, offered));
    // Else another connection of this spool was greeted meanwhile.
    noted.await?.ok_or_else(|| Close::new(CloseCode::Superseded, "another connection with the same spool took over"))
}

/// Begins the session of a relay that knows nothing of sessions.
pub(super) async fn unconfirmed(shared: &Shared, relay_id: RelayId, spool_id: SpoolId) -> Result<SessionEpoch, Close> {
    ask(shared, relay_id, spool_id, move |journal| journal.begin_session(spool_id)).await
}

fn random_session() -> Result<SessionId, Close> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        warn!(%error, "no random bytes for a session");
        Close::new(CloseCode::Internal, "the aggregator has no random bytes")
    })?;
    Ok(SessionId::from_random(random))
}

/// Makes sure that the spool is this relay's, and finds out how far it is stored.
async fn claim(shared: &Shared, relay_id: RelayId, spool_id: SpoolId) -> Result<StoredSequences, Close> {
    let claim_for =
        |replaces| ask(shared, relay_id, spool_id, move |journal| journal.claim_spool(spool_id, relay_id, replaces));
    if let SpoolClaim::OwnedBy(owner) = claim_for(None).await? {
        let allowed = shared.intake.fleet.allowed().await.map_err(|error| {
            warn!(%error, "can't read the registry");
            Close::new(CloseCode::Internal, "the registry can't be read at the moment")
        })?;
        let reason = format!(
            "spool {spool_id} belongs to relay {owner}; this relay goes on under a new spool id. If the host joined again, \
             revoke that relay; if the data directory was copied, look for the other copy"
        );
        // A relay that was revoked and joined again under a new id brings its spool along.
        let replaced = match allowed.contains(&owner) {
            true => SpoolClaim::OwnedBy(owner),
            false => claim_for(Some(owner)).await?,
        };
        if replaced != SpoolClaim::Granted {
            return Err(Close::new(CloseCode::SpoolOwned, reason));
        }
    }
    let stored = ask(shared, relay_id, spool_id, move |journal| {
        let (up_to, highest) = journal.stored(spool_id)?;
        Ok(StoredSequences { up_to, highest })
    });
    stored.await
}

/// The journal reads and writes the disk, so it is asked off the asynchronous threads.
async fn ask<T: Send + 'static>(
    shared: &Shared,
    relay_id: RelayId,
    spool_id: SpoolId,
    question: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Close> {
    let journal = shared.intake.journal.clone();
    let failed = |error: &dyn std::fmt::Display| {
        warn!(%error, relay = %relay_id, spool = %spool_id, "can't ask the journal about the spool");
        Close::new(CloseCode::Internal, "the journal can't be read at the moment")
    };
    let asked = tokio::task::spawn_blocking(move || question(&journal)).await;
    asked.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}
