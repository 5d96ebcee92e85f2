//! Joining: how a relay gets its identity from one token.
//!
//! Told in order: a key pair is made here (ECDSA P-256) and never leaves; the token's addresses are tried until one
//! answers, over TLS that trusts only the authority whose fingerprint the token carries; the certificate that comes
//! back is checked against the key, the authority and the id it came with; only then is anything written
//! ([`crate::identity_store`]).

use std::path::{Path, PathBuf};
use std::time::Duration;

use picket_common::identity::{
    Fingerprint, IdentityError, certificate_from_pem, certificates_from_pem, check_issuer, join_client_config,
    relay_id_of,
};
use picket_common::ids::RelayId;
use picket_common::transport::{Connection, TransportKind};
use picket_common::wire::join::{JoinReply, JoinRequest, JoinToken};
use picket_common::wire::{FrameError, MAX_SMALL_FRAME, read_frame, write_frame};
use serde::Serialize;
use tokio::time::timeout;

use crate::identity_store::{
    NewIdentity, RelayDescription, has_identity, identity_directory, identity_of, load_description, store_identity,
};
use crate::key_request::KeyRequest;
use crate::uplink::dial::Dialler;
use crate::uplink::race::{DialTimes, TransportChoice, connect};
use crate::uplink::{CongestionControl, DialError};

pub use crate::identity_store::{LoadIdentityError, RelayIdentity, load_identity};

/// How long one address may take to connect, and then to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long QUIC is tried alone.
const HEAD_START: Duration = Duration::from_secs(2);

/// What to do if the relay has joined before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Fail: a token is good once, and the old identity may still be in use.
    Refuse,
    /// Replace the old identity.
    Replace,
}

/// What joining brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// Who the relay is from now on.
    pub relay_id: RelayId,
    /// The name it is listed under.
    pub name: String,
    /// `host:port` of the aggregators it will connect to.
    pub aggregators: Vec<String>,
    /// Where its identity was written.
    pub identity: PathBuf,
    /// Whose place it took; nothing where the relay had not joined before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// An identity that gave way to a new one. Its aggregator goes on to count it among the relays until it is revoked there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Who the relay was; nothing where its description can't be read.
    pub relay_id: Option<RelayId>,
    /// The name it was listed under.
    pub name: Option<String>,
}

/// Why a relay could not join. Nothing was written, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has joined before.
    #[error("this relay has joined already: {directory} holds an identity; to replace it, join with --force")]
    AlreadyJoined {
        /// Where the identity is.
        directory: PathBuf,
    },
    /// No address of the token led to an answer.
    #[error("no aggregator could be asked to sign this relay's certificate; tried {}", .0.join("; "))]
    Unreachable(Vec<String>),
    /// The aggregator answered no. It says what to do as well, so nothing is added.
    #[error("the aggregator at {address} refused: {detail}")]
    Refused {
        /// Who refused.
        address: String,
        /// Why, in its words.
        detail: String,
    },
    /// What the aggregator answered is no identity for this relay.
    #[error("the aggregator at {address} answered with an identity that can't be used: {problem}")]
    BadReply {
        /// Who answered.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// The key pair or the request can't be made.
    #[error("can't make a key pair: {0}")]
    Key(#[from] rcgen::Error),
    /// The TLS settings are refused.
    #[error(transparent)]
    Setup(#[from] IdentityError),
    /// The connection's settings are refused.
    #[error(transparent)]
    Connection(#[from] DialError),
    /// The identity can't be written.
    #[error(
        "the aggregator registered this relay, but its identity can't be written to {directory}: {source}; see to the \
         directory, then join with a new token"
    )]
    Store {
        /// Where it should go.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why one address was of no use.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("it answered to the connection, but not to the request within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the conversation broke: {0}")]
    Frame(#[from] FrameError),
}

/// Joins the aggregator that made `token` and writes the identity into `data_dir`.
///
/// # Errors
/// [`JoinError`], see its variants.
pub async fn join(token: &JoinToken, data_dir: &Path, overwrite: Overwrite) -> Result<Joined, JoinError> {
    if overwrite == Overwrite::Refuse && has_identity(data_dir) {
        return Err(JoinError::AlreadyJoined { directory: identity_directory(data_dir) });
    }
    let replaced = has_identity(data_dir).then(|| Replaced::of(data_dir));
    let key = KeyRequest::generate()?;
    let request = JoinRequest {
        secret: token.secret.clone(),
        csr_pem: key.csr_pem().to_owned(),
        hostname: hostname(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (address, reply) = ask_each(token, &request).await?;
    let (certificate_pem, authority_pem, relay) = match reply {
        JoinReply::Refused { detail } => return Err(JoinError::Refused { address, detail }),
        JoinReply::Joined { relay_id, name, certificate_pem, authority_pem, mut aggregators } => {
            if aggregators.is_empty() {
                aggregators.clone_from(&token.addresses);
            }
            (certificate_pem, authority_pem, RelayDescription { relay_id, name, aggregators })
        }
    };
    let key_pem = key.key_pem();
    check(token, &relay, &key_pem, &certificate_pem, &authority_pem)
        .map_err(|problem| JoinError::BadReply { address, problem })?;
    let directory = identity_directory(data_dir);
    let identity = NewIdentity {
        key_pem: &key_pem,
        certificate_pem: &certificate_pem,
        authority_pem: &authority_pem,
        relay: &relay,
    };
    store_identity(data_dir, &identity).map_err(|source| JoinError::Store { directory: directory.clone(), source })?;
    let RelayDescription { relay_id, name, aggregators } = relay;
    Ok(Joined { relay_id, name, aggregators, identity: directory, replaced })
}

// === impl Replaced ===

impl Replaced {
    /// What can be read of the identity that is there; that it can't be used may be why it is replaced.
    fn of(data_dir: &Path) -> Self {
        let described = load_description(data_dir).ok();
        described.map_or(Self { relay_id: None, name: None }, |relay| Self {
            relay_id: Some(relay.relay_id),
            name: Some(relay.name),
        })
    }
}

impl std::fmt::Display for Replaced {
    /// What an operator should do about it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.relay_id.map(|id| id.to_string());
        write!(f, "the former identity of this relay")?;
        if let (Some(name), Some(id)) = (&self.name, &id) {
            write!(f, ", {name} ({id}),")?;
        }
        write!(
            f,
            " stays registered and keeps its share of every quota until it is revoked; unless it is in use elsewhere, revoke \
             it on its aggregator: picket-aggregator relay revoke {}",
            id.as_deref().unwrap_or("ID (picket-aggregator relay list shows which)")
        )
    }
}

/// Asks the token's addresses in turn. A refusal is an answer: the others would say the same.
async fn ask_each(token: &JoinToken, request: &JoinRequest) -> Result<(String, JoinReply), JoinError> {
    let dialler = Dialler::new(join_client_config(token.authority)?, CongestionControl::default())?;
    let mut tried = Vec::new();
    for address in &token.addresses {
        tracing::info!(address, "asking the aggregator");
        match ask(address, &dialler, request).await {
            Ok(reply) => return Ok((address.clone(), reply)),
            Err(error) => tried.push(format!("{address}: {error}")),
        }
    }
    Err(JoinError::Unreachable(tried))
}

async fn ask(address: &str, dialler: &Dialler, request: &JoinRequest) -> Result<JoinReply, AskError> {
    let times = DialTimes { patience: PATIENCE, head_start: HEAD_START };
    let won = connect(dialler, address, TransportChoice::Auto, TransportKind::Quic, times).await?;
    if let Some(trouble) = won.quic_trouble {
        tracing::warn!(address, trouble, "UDP gets no answer, a firewall probably drops it; joining by TCP instead");
    }
    let dialled = won.dialled;
    let reply = timeout(PATIENCE, exchange(&dialled.connection, request)).await;
    // The aggregator may have closed the connection and said why.
    let cause = dialled.connection.close_reason();
    dialled.close("joined").await;
    match (reply, cause) {
        (Ok(Err(_)), Some(cause)) => Err(AskError::Dial(cause.into())),
        (Ok(reply), _) => reply,
        (Err(_), _) => Err(AskError::Silent),
    }
}

async fn exchange(connection: &Connection, request: &JoinRequest) -> Result<JoinReply, AskError> {
    let (mut send, mut receive) = connection.open().await.map_err(DialError::from)?;
    write_frame(&mut send, request, MAX_SMALL_FRAME).await?;
    send.finish();
    Ok(read_frame(&mut receive, MAX_SMALL_FRAME).await?)
}

/// Checks that the reply is an identity for this relay, from the authority that the token names.
fn check(
    token: &JoinToken,
    relay: &RelayDescription,
    key: &str,
    certificate: &str,
    authority: &str,
) -> Result<(), String> {
    let text = |error: IdentityError| error.to_string();
    let authorities = certificates_from_pem(authority).map_err(text)?;
    let found: Result<Vec<_>, _> = authorities.iter().map(Fingerprint::of_certificate).collect();
    let found = found.map_err(text)?;
    // While one authority takes over from another there are two, and the token may name either.
    if !found.contains(&token.authority) {
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        return Err(format!("its authorities are {}, the token names {}", found.join(", "), token.authority));
    }
    check_issuer(authorities, &certificate_from_pem(certificate).map_err(text)?).map_err(text)?;
    let named = relay_id_of(&certificate_from_pem(certificate).map_err(text)?).map_err(text)?;
    if named != relay.relay_id {
        return Err(format!("the certificate names relay {named}, the reply {}", relay.relay_id));
    }
    // Also fails where the certificate is for another key.
    identity_of(relay.clone(), key, certificate, authority).map(|_| ()).map_err(text)
}

/// What the host calls itself, for the operator's list; empty if it does not say.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::uplink::fake_aggregator::{Authority, FakeAggregator, soon};

    #[tokio::test]
    async fn a_joined_relay_has_an_identity_that_loads_and_a_key_that_only_it_can_read() {
        let authority = Arc::new(Authority::new());
        let aggregator = FakeAggregator::start(&authority);
        let data_dir = tempfile::tempdir().unwrap();
        let token = authority.token(aggregator.address);
        let joined = soon(join(&token, data_dir.path(), Overwrite::Refuse)).await.unwrap();
        assert_eq!((joined.name.as_str(), &joined.aggregators), ("edge", &token.addresses));
        let identity = load_identity(data_dir.path()).unwrap();
        assert_eq!(identity.relay.relay_id, joined.relay_id);
        let mode = |name: &str| joined.identity.join(name).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("key.pem"), mode(".")), (0o600, 0o700));
        let again = soon(join(&token, data_dir.path(), Overwrite::Refuse)).await;
        assert!(matches!(again, Err(JoinError::AlreadyJoined { .. })), "{again:?}");
        assert_eq!(joined.replaced, None);
        let forced = soon(join(&token, data_dir.path(), Overwrite::Replace)).await.unwrap();
        let replaced = forced.replaced.unwrap();
        assert_eq!(replaced.relay_id, Some(joined.relay_id));
        assert!(replaced.to_string().ends_with(&format!("relay revoke {}", joined.relay_id)), "{replaced}");
        std::fs::write(joined.identity.join("relay.json"), "{").unwrap();
        let forced = soon(join(&token, data_dir.path(), Overwrite::Replace)).await.unwrap();
        assert!(forced.replaced.unwrap().to_string().contains("relay list shows which"));
    }

    #[tokio::test]
    async fn a_refused_token_leaves_nothing_behind() {
        let authority = Arc::new(Authority::new());
        let aggregator = FakeAggregator::start(&authority);
        let data_dir = tempfile::tempdir().unwrap();
        let token = JoinToken { secret: "used".to_owned(), ..authority.token(aggregator.address) };
        let refused = soon(join(&token, data_dir.path(), Overwrite::Refuse)).await;
        assert!(matches!(refused, Err(JoinError::Refused { .. })), "{refused:?}");
        assert!(matches!(load_identity(data_dir.path()), Err(LoadIdentityError::NotJoined { .. })));
    }

    #[tokio::test]
    async fn an_aggregator_of_another_authority_is_not_told_the_secret() {
        let authority = Arc::new(Authority::new());
        let aggregator = FakeAggregator::start(&authority);
        let data_dir = tempfile::tempdir().unwrap();
        let token = Authority::new().token(aggregator.address);
        let failed = soon(join(&token, data_dir.path(), Overwrite::Refuse)).await.unwrap_err();
        assert!(failed.to_string().contains("not the aggregator this relay trusts"), "{failed}");
    }
}
