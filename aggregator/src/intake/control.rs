//! The control stream of a session: what the relay reports, and what it is told.

use std::time::Duration;

use picket_common::timestamp::Timestamp;
use picket_common::transport::{ReceiveStream, SendStream};
use picket_common::wire::{FrameError, FromAggregator, FromRelay, MAX_CONTROL_FRAME, read_frame, write_frame};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::close::Close;
use super::identity_talk::{IdentityTalk, Question};
use super::session::Session;
use super::window::{narrower, window};
use picket_common::wire::CloseCode;

/// How often the window is compared with the journal's backlog.
const WINDOW_INTERVAL: Duration = Duration::from_secs(1);
/// Questions that wait for the half that answers: a relay has one at a time.
const QUESTIONS_AHEAD: usize = 1;
/// How long the goodbye may take to arrive.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);

/// Talks until the relay ends the stream, breaks the protocol, or `shutdown`.
pub(super) async fn converse(
    session: &Session,
    (send, receive): (SendStream, ReceiveStream),
    shutdown: &CancellationToken,
) -> Result<(), Close> {
    let (ask, questions) = mpsc::channel(QUESTIONS_AHEAD);
    tokio::select! {
        ended = listen(session, receive, ask) => ended,
        ended = tell(session, send, questions, shutdown) => ended,
    }
}

async fn listen(session: &Session, mut receive: ReceiveStream, questions: mpsc::Sender<Question>) -> Result<(), Close> {
    loop {
        match read_frame(&mut receive, MAX_CONTROL_FRAME).await {
            Ok(FromRelay::Statistics(statistics)) => session.listed.set_statistics(Timestamp::now(), statistics),
            Ok(FromRelay::QuotaUse { is_complete, windows }) => {
                session.quotas.report(is_complete, &windows, Timestamp::now());
            }
            // One that does not wait for the answer is not listened to until it has it.
            Ok(FromRelay::Renew { csr_pem }) => {
                let Ok(()) = questions.send(Question::Renew(csr_pem)).await else { return Ok(()) };
            }
            Ok(FromRelay::Trusts { authorities }) => {
                let Ok(()) = questions.send(Question::Trusts(authorities)).await else { return Ok(()) };
            }
            Ok(FromRelay::Unknown) => debug!(relay = %session.relay_id, "message of a newer relay ignored"),
            Ok(FromRelay::Hello { .. } | FromRelay::Confirm { .. }) => {
                return Err(Close::new(CloseCode::Protocol, "Hello or Confirm was said twice"));
            }
            Err(FrameError::Closed | FrameError::Io(_)) => return Ok(()),
            Err(error @ (FrameError::TooLong { .. } | FrameError::Message(_))) => {
                return Err(Close::new(CloseCode::Protocol, format!("a control message is unreadable: {error}")));
            }
        }
    }
}

async fn tell(
    session: &Session,
    mut send: SendStream,
    questions: mpsc::Receiver<Question>,
    shutdown: &CancellationToken,
) -> Result<(), Close> {
    match tell_all(session, &mut send, questions, shutdown).await {
        Err(FrameError::TooLong { length, bound }) => {
            // Welcome, Window and Goodbye are short, and a long configuration is seen to before.
            error!(length, bound, "a control message is too long");
            Err(Close::new(CloseCode::Internal, "a control message is too long"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn tell_all(
    session: &Session,
    send: &mut SendStream,
    mut questions: mpsc::Receiver<Question>,
    shutdown: &CancellationToken,
) -> Result<(), FrameError> {
    let intake = &session.shared.intake;
    let mut told_window = session.window;
    if !intake.addresses.is_empty() {
        let aggregators = FromAggregator::Aggregators { addresses: intake.addresses.clone() };
        write_frame(send, &aggregators, MAX_CONTROL_FRAME).await?;
    }
    // Before the configuration: a relay that is new divides its first windows by the right number.
    tell_shares(session, send).await?;
    let mut projects = intake.projects.clone();
    let mut told_revision = session.config_revision;
    let mut identity = IdentityTalk::new(session);
    let mut ticks = interval(WINDOW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let snapshot = std::sync::Arc::clone(&projects.borrow_and_update());
        // Not only newer ones: after a restore from a backup the revision may be lower.
        if snapshot.revision != told_revision {
            told_revision = snapshot.revision;
            tell_projects(send, &snapshot).await?;
        }
        tokio::select! {
            changed = projects.changed() => if changed.is_err() {
                // The projects' owner is gone: the aggregator is stopping.
                shutdown.cancelled().await;
            },
            _ = ticks.tick() => {
                let now = window(&intake.settings.borrow(), intake.journal.backlog());
                let now = narrower(now, session.widest);
                if now != told_window {
                    told_window = now;
                    write_frame(send, &FromAggregator::Window(now), MAX_CONTROL_FRAME).await?;
                }
            }
            () = session.quotas.changed() => tell_shares(session, send).await?,
            Some(question) = questions.recv() => {
                if let Some(answer) = identity.answer(question).await {
                    write_frame(send, &answer, MAX_CONTROL_FRAME).await?;
                }
            }
            answer = identity.changed() => write_frame(send, &answer, MAX_CONTROL_FRAME).await?,
            () = shutdown.cancelled() => return say_goodbye(send).await,
        }
    }
}

async fn tell_shares(session: &Session, send: &mut SendStream) -> Result<(), FrameError> {
    match session.quotas.take_message() {
        Some(message) => write_frame(send, &message, MAX_CONTROL_FRAME).await,
        None => Ok(()),
    }
}

async fn tell_projects(
    send: &mut SendStream,
    snapshot: &picket_common::project_config::ConfigSnapshot,
) -> Result<(), FrameError> {
    let message = FromAggregator::ProjectConfigs(snapshot.clone());
    match write_frame(send, &message, MAX_CONTROL_FRAME).await {
        Err(FrameError::TooLong { length, bound }) => {
            error!(
                length,
                bound,
                revision = snapshot.revision,
                "too many projects for one message, relays keep the old"
            );
            Ok(())
        }
        other => other,
    }
}

async fn say_goodbye(send: &mut SendStream) -> Result<(), FrameError> {
    let goodbye = FromAggregator::Goodbye { reason: "the aggregator is stopping".to_owned() };
    write_frame(send, &goodbye, MAX_CONTROL_FRAME).await?;
    send.finish();
    // Closing the connection would throw away what has not arrived.
    let _ = timeout(GOODBYE_TIMEOUT, send.arrived()).await;
    Ok(())
}
