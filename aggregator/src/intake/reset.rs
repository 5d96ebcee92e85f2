//! How a relay learns at once that the process it was connected to is gone: stateless resets (RFC 9000 §10.3).
//!
//! A killed aggregator closes no connection. The next process answers the relay's packets with a reset, which the relay
//! believes because it carries a token that only this installation can make: keyed by a secret that outlives the process.
//! Without that the relay would wait for its idle timeout.
//!
//! Invariant: connection ids are not checked for being ours. Those of an earlier process must get a reset and not silence.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use ring::hmac;

use crate::fleet::Authority;

/// Bytes of a connection id: so many that nobody guesses the id of a connection that is not theirs.
const CONNECTION_ID_BYTES: usize = 8;

/// The endpoint's settings.
pub(super) fn endpoint_config(authority: &Authority) -> EndpointConfig {
    let secret = authority.derived_secret("picket link stateless reset");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret)));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Random connection ids that are never refused.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        // Without randomness nothing works any more, TLS first; an id that repeats is made again by quinn.
        let _ = getrandom::fill(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
