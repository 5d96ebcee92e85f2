//! Why a connection has ended, in words that do not depend on what carried it.

use quinn::{ConnectionError, TransportErrorCode};
use rustls::{AlertDescription, CertificateError};

/// Why a connection could not be made, or has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLost {
    /// The peer's program closed it.
    #[error("closed by the peer (code {code}): {reason}")]
    Closed {
        /// A number of [`crate::wire::CloseCode`], or one of a newer version.
        code: u32,
        /// For people.
        reason: String,
    },
    /// We closed it.
    #[error("closed on this side")]
    Local,
    /// The peer was silent for too long.
    #[error("the peer was silent for too long")]
    TimedOut,
    /// The peer's process or host has restarted, or does not listen.
    #[error("the peer knows nothing of this connection: it has restarted")]
    Reset,
    /// The peer's certificate can't be trusted.
    #[error("the peer's certificate can't be trusted: {0}")]
    Untrusted(String),
    /// By our clock the peer's certificate is not good now.
    #[error("the peer's certificate is not good now: {0}")]
    UntrustedForTime(String),
    /// By the peer's clock our certificate is not good now.
    #[error("the peer does not take our certificate, as expired or not good yet")]
    RefusedForTime,
    /// The peer does not trust our certificate.
    #[error("the peer does not take our certificate: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Broken(String),
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> Self {
        match &error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                // Ours are below 2^32; another is no code we know either way.
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TransportError(ours) if alert_of(ours.code) == Some(CERTIFICATE_EXPIRED) => {
                Self::UntrustedForTime(ours.reason.clone())
            }
            ConnectionError::ConnectionClosed(theirs) if alert_of(theirs.error_code) == Some(CERTIFICATE_EXPIRED) => {
                Self::RefusedForTime
            }
            ConnectionError::TransportError(ours) if is_about_certificates(ours.code) => {
                Self::Untrusted(ours.reason.clone())
            }
            ConnectionError::ConnectionClosed(theirs) if is_about_certificates(theirs.error_code) => {
                Self::Refused(theirs.to_string())
            }
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Reset,
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// RFC 9001 §4.8: TLS alerts are the transport errors 0x0100 to 0x01ff.
fn alert_of(code: TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

fn is_about_certificates(code: TransportErrorCode) -> bool {
    alert_of(code).is_some_and(is_certificate_alert)
}

/// RFC 8446 §6.2: `certificate_expired`, also for one that is not good yet.
const CERTIFICATE_EXPIRED: u8 = 45;

/// RFC 8446 §6: the alerts about certificates are 41 to 46, 48 (its authority), 49 (who it names), 51 (its signature), 113 (its
/// revocation) and 116 (none was shown). The others between, 47 `illegal_parameter` and 50 `decode_error`, tell of bytes that
/// make no sense, which another way or another try may cure; they are no refusal of who we are.
const fn is_certificate_alert(alert: u8) -> bool {
    matches!(alert, 41..=46 | 48 | 49 | 51 | 113 | 116)
}

impl From<std::io::Error> for ConnectionLost {
    /// From a TCP stream or from TLS above it.
    fn from(error: std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(problem)) if is_about_time(problem) => {
                return Self::UntrustedForTime(problem.to_string());
            }
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)) => return Self::RefusedForTime,
            Some(rustls::Error::InvalidCertificate(problem)) => return Self::Untrusted(problem.to_string()),
            Some(rustls::Error::AlertReceived(alert)) if is_certificate_alert(alert_number(*alert)) => {
                return Self::Refused(format!("{alert:?}"));
            }
            _ => {}
        }
        match error.kind() {
            std::io::ErrorKind::TimedOut => Self::TimedOut,
            std::io::ErrorKind::ConnectionReset
            | std::io::ErrorKind::ConnectionAborted
            | std::io::ErrorKind::BrokenPipe
            | std::io::ErrorKind::UnexpectedEof => Self::Reset,
            _ => Self::Broken(error.to_string()),
        }
    }
}

const fn is_about_time(problem: &CertificateError) -> bool {
    matches!(
        problem,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn alert_number(alert: AlertDescription) -> u8 {
    alert.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_alerts_about_certificates_are_refusals_of_who_we_are() {
        let refusals: Vec<u8> = (0..=u8::MAX).filter(|alert| is_certificate_alert(*alert)).collect();
        assert_eq!(refusals, [41, 42, 43, 44, 45, 46, 48, 49, 51, 113, 116]);
        for (alert, is_refusal) in [
            (AlertDescription::UnknownCA, true),
            (AlertDescription::CertificateRequired, true),
            (AlertDescription::DecryptError, true),
            (AlertDescription::DecodeError, false),
            (AlertDescription::IllegalParameter, false),
        ] {
            let error = std::io::Error::other(rustls::Error::AlertReceived(alert));
            let lost = ConnectionLost::from(error);
            assert_eq!(matches!(lost, ConnectionLost::Refused(_)), is_refusal, "{alert:?}: {lost}");
        }
    }
}
