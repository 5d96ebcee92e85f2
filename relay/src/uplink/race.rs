//! Which transport is tried when, in the manner of happy eyeballs (RFC 8305): the likely one at once, the other as well once the first
//! has failed or has had its time; the first connection counts and the other attempt is given up.
//!
//! ```text
//! 0 s        QUIC ───────────────╳ (UDP is dropped)
//! 2 s               TCP ──▶ connected: remembered, tried first from now on
//! ```

use std::time::Duration;

use picket_common::transport::TransportKind;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::dial::{DialError, Dialled, Dialler};

/// Which transports the relay uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportChoice {
    /// QUIC, and TCP where QUIC does not get through.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// TCP only.
    Tcp,
}

/// How long attempts may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialTimes {
    /// One attempt.
    pub(crate) patience: Duration,
    /// The first attempt has the line to itself for so long.
    pub(crate) head_start: Duration,
}

/// A connection, and what was learned of the way to it.
#[derive(Debug)]
pub(crate) struct Won {
    pub(crate) dialled: Dialled,
    /// Why QUIC did not win, where it was tried first and TCP won.
    pub(crate) quic_trouble: Option<String>,
}

// === impl TransportChoice ===

impl TransportChoice {
    /// The order to try in; `remembered` won the last time.
    const fn order(self, remembered: TransportKind) -> (TransportKind, Option<TransportKind>) {
        match (self, remembered) {
            (Self::Quic, _) => (TransportKind::Quic, None),
            (Self::Tcp, _) => (TransportKind::Tcp, None),
            (Self::Auto, TransportKind::Quic) => (TransportKind::Quic, Some(TransportKind::Tcp)),
            (Self::Auto, TransportKind::Tcp) => (TransportKind::Tcp, Some(TransportKind::Quic)),
        }
    }
}

/// Connects to `host:port` by whichever of the transports gets through first.
pub(crate) async fn connect(
    dialler: &Dialler,
    address: &str,
    choice: TransportChoice,
    remembered: TransportKind,
    times: DialTimes,
) -> Result<Won, DialError> {
    let (first, second) = choice.order(remembered);
    let quiet = |dialled| Won { dialled, quic_trouble: None };
    let dialling_first = dialler.dial(address, first, times.patience);
    let Some(second) = second else { return dialling_first.await.map(quiet) };
    tokio::pin!(dialling_first);
    let first_error = tokio::select! {
        dialled = &mut dialling_first => match dialled {
            Ok(dialled) => return Ok(quiet(dialled)),
            Err(error) if error.is_answer() => return Err(error),
            Err(error) => Some(error),
        },
        () = sleep(times.head_start) => None,
    };
    let dialling_second = dialler.dial(address, second, times.patience);
    tokio::pin!(dialling_second);
    let Some(first_error) = first_error else {
        return both(first, dialling_first, dialling_second, times).await;
    };
    match dialling_second.await {
        Ok(dialled) => Ok(won(dialled, second, &first_error.to_string())),
        Err(error) if error.is_answer() => Err(error),
        Err(error) => Err(neither(first, first_error, error)),
    }
}

/// Both attempts run; the first success counts, and an answer of any kind ends it.
async fn both(
    first: TransportKind,
    mut dialling_first: impl Future<Output = Result<Dialled, DialError>> + Unpin,
    mut dialling_second: impl Future<Output = Result<Dialled, DialError>> + Unpin,
    times: DialTimes,
) -> Result<Won, DialError> {
    let head_start = format!("no answer within {} ms", times.head_start.as_millis());
    tokio::select! {
        dialled = &mut dialling_first => match dialled {
            Ok(dialled) => Ok(Won { dialled, quic_trouble: None }),
            Err(error) if error.is_answer() => Err(error),
            Err(first_error) => match dialling_second.await {
                Ok(dialled) => Ok(won(dialled, other(first), &first_error.to_string())),
                Err(error) if error.is_answer() => Err(error),
                Err(error) => Err(neither(first, first_error, error)),
            },
        },
        dialled = &mut dialling_second => match dialled {
            Ok(dialled) => Ok(won(dialled, other(first), &head_start)),
            Err(error) if error.is_answer() => Err(error),
            Err(second_error) => match dialling_first.await {
                Ok(dialled) => Ok(Won { dialled, quic_trouble: None }),
                Err(error) if error.is_answer() => Err(error),
                Err(error) => Err(neither(first, error, second_error)),
            },
        },
    }
}

/// The second attempt won.
fn won(dialled: Dialled, second: TransportKind, first_trouble: &str) -> Won {
    let quic_trouble = (second == TransportKind::Tcp).then(|| first_trouble.to_owned());
    Won { dialled, quic_trouble }
}

const fn other(kind: TransportKind) -> TransportKind {
    match kind {
        TransportKind::Quic => TransportKind::Tcp,
        TransportKind::Tcp => TransportKind::Quic,
    }
}

fn neither(first: TransportKind, first_error: DialError, second_error: DialError) -> DialError {
    let (quic, tcp) = match first {
        TransportKind::Quic => (first_error, second_error),
        TransportKind::Tcp => (second_error, first_error),
    };
    DialError::Neither { quic: Box::new(quic), tcp: Box::new(tcp) }
}
