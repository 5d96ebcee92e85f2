//! What certificates that are not good *now* say about clocks: how far they differ at least, and whose is wrong.
//!
//! A certificate is good from an hour before it was signed (less for short-lived ones). So a clock that differs by minutes does no
//! harm, and one that does harm can be told by how much.

use std::time::Duration;

use picket_common::config::Span;
use picket_common::identity::Validity;
use picket_common::timestamp::Timestamp;

const ADVICE: &str = "see to time synchronisation on both hosts";

/// Why the relay does not take the server's certificate; `reason` is what rustls says of it.
pub(super) fn server_not_valid(reason: &str) -> String {
    // rustls 0.23, `CertificateError`: "… not valid yet: … (N seconds in future)", "… expired: … (N seconds ago)".
    let seconds = reason.rsplit_once('(').and_then(|(_, rest)| rest.split_once(' ')?.0.parse().ok());
    let amount = seconds.map_or_else(|| "some time".to_owned(), |seconds| span(Duration::from_secs(seconds)));
    if reason.contains("not valid yet") {
        return format!(
            "the aggregator's certificate begins {amount} from now by the clock of this host: this host's clock is behind the \
             aggregator's by at least that; {ADVICE}"
        );
    }
    format!(
        "the aggregator's certificate ended {amount} ago by the clock of this host: this host's clock is ahead of the \
         aggregator's, which makes its certificate anew in time; {ADVICE}"
    )
}

/// Why the aggregator does not take the relay's certificate, as far as the relay can know.
pub(super) fn relay_not_valid(validity: Validity, now: Timestamp) -> String {
    let Validity { not_before, not_after } = validity;
    let (from, until) = (not_before.to_rfc3339(), not_after.to_rfc3339());
    if now > not_after {
        return format!(
            "the aggregator refused this relay's certificate: it expired {} ago ({until}), because the relay was away when it \
             should have been renewed; join anew: picket-relay join --force TOKEN",
            span(now.since(not_after))
        );
    }
    if now < not_before {
        return format!(
            "the aggregator refused this relay's certificate, which begins {} from now ({from}) by the clock of this host too: the \
             clock of the aggregator was ahead when it signed, or both are behind; {ADVICE}",
            span(not_before.since(now))
        );
    }
    format!(
        "the aggregator refused this relay's certificate as expired or not good yet, but by the clock of this host it is good, from \
         {from} until {until}: the aggregator's clock is behind this one by {} or more, or ahead of it by {} or more; {ADVICE}",
        span(now.since(not_before)),
        span(not_after.since(now)),
    )
}

/// In days where it is some of them, else in whole seconds; nobody reads more.
fn span(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() {
        seconds if seconds >= 2 * DAY => format!("{} days", seconds / DAY),
        seconds => Span::secs(seconds).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;
    use rustls::pki_types::UnixTime;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn how_far_this_hosts_clock_is_off_is_told_from_what_rustls_says() {
        let early = CertificateError::NotValidYetContext { time: at(1000), not_before: at(8200) };
        let told = server_not_valid(&rustls::Error::InvalidCertificate(early).to_string());
        assert!(told.contains("begins 2h from now") && told.contains("this host's clock is behind"), "{told}");
        let late = CertificateError::ExpiredContext { time: at(10_000), not_after: at(9_940) };
        let told = server_not_valid(&rustls::Error::InvalidCertificate(late).to_string());
        assert!(told.contains("ended 1m ago") && told.contains("this host's clock is ahead"), "{told}");
        let vague = server_not_valid("invalid peer certificate: Expired");
        assert!(vague.contains("ended some time ago"), "{vague}");
    }

    #[test]
    fn what_a_refused_certificate_says_depends_on_this_hosts_clock() {
        let day = Duration::from_secs(24 * 3600);
        let not_before = Timestamp::from_millis(1_790_000_000_000);
        let validity = Validity { not_before, not_after: not_before.plus(day * 90) };
        let told = relay_not_valid(validity, validity.not_after.plus(day));
        assert!(told.contains("expired 1day ago") && told.contains("join --force"), "{told}");
        let told = relay_not_valid(validity, not_before.plus(day * 30));
        assert!(told.contains("behind this one by 30 days or more, or ahead of it by 60 days or more"), "{told}");
        let told = relay_not_valid(validity, not_before.minus(day));
        assert!(told.contains("begins 1day from now"), "{told}");
    }
}
