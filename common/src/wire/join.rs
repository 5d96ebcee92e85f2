//! Joining: how a relay gets its certificate with one token.
//!
//! The token carries where the aggregator is, how to know its authority, and a secret that is good once:
//! `picket1.` followed by base64url of `{"a": [addresses], "f": authority fingerprint, "s": secret}`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::identity::Fingerprint;
use crate::ids::RelayId;

const PREFIX: &str = "picket1.";

/// A join token as an operator hands it to a relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// `host:port` of the aggregator's link, in order of preference.
    #[serde(rename = "a")]
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's public key.
    #[serde(rename = "f")]
    pub authority: Fingerprint,
    /// The secret, 128 random bits in hexadecimal; the aggregator stores its hash only.
    #[serde(rename = "s")]
    pub secret: String,
}

/// The text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token: expected the whole text that `picket-aggregator relay invite` printed, starting with {PREFIX}"
)]
pub struct InvalidJoinToken;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Strings and arrays of strings always serialise.
        let json = serde_json::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl fmt::Debug for JoinToken {
    /// Leaves the secret out, so that no log can hold it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(InvalidJoinToken)?;
        let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InvalidJoinToken)?;
        let token: Self = serde_json::from_slice(&json).map_err(|_| InvalidJoinToken)?;
        if token.addresses.is_empty() || token.secret.is_empty() {
            return Err(InvalidJoinToken);
        }
        Ok(token)
    }
}

/// What a joining relay asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's secret.
    pub secret: String,
    /// Certificate signing request in PEM; the key it is for never leaves the relay.
    pub csr_pem: String,
    /// What the host calls itself, for the operator's list; not an identity.
    #[serde(default)]
    pub hostname: String,
    /// Version of the relay's binary.
    #[serde(default)]
    pub version: String,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum JoinReply {
    /// The relay is registered.
    Joined {
        /// Who it is from now on.
        relay_id: RelayId,
        /// The name it is listed under.
        name: String,
        /// Its certificate, PEM.
        certificate_pem: String,
        /// The certificates of the authorities to trust, PEM; the token names one of them.
        authority_pem: String,
        /// `host:port` of the aggregators.
        aggregators: Vec<String>,
    },
    /// It was refused.
    Refused {
        /// Why, for the operator at the relay.
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_round_trips_and_its_debug_form_hides_the_secret() {
        let token = JoinToken {
            addresses: vec!["127.0.0.1:7443".to_owned()],
            authority: Fingerprint::from_bytes([3; 32]),
            secret: "s3cr3t".to_owned(),
        };
        assert_eq!(token.to_string().parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains("s3cr3t"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(picket1\\.)?[A-Za-z0-9_-]{0,80}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
