//! Detectors: find things in a text. (A place-holder: they find nothing yet.)

use std::ops::Range;

/// What can be found in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Detector {
    /// International mobile equipment identities.
    Imei,
    /// Hardware addresses of network interfaces.
    Mac,
    /// UUIDs.
    Uuid,
    /// E-mail addresses at dotted domains.
    Email,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Card numbers by issuer prefix, without their check digit.
    CreditCard,
    /// Card numbers by issuer prefix with the right check digit (Luhn).
    CreditCardChecked,
    /// International bank account numbers.
    Iban,
    /// The user's part of a path.
    UserPath,
    /// The user's part of a path of a local file; the paths of URLs are left alone.
    LocalUserPath,
    /// The body of a PEM key.
    PemKey,
    /// `user:password` in a URL.
    UrlAuth,
    /// The password in a URL.
    UrlPassword,
    /// Values of URL query parameters that have a sensitive name.
    UrlQuery,
    /// US social security numbers.
    UsSsn,
    /// Bearer tokens, with the word.
    Bearer,
    /// Values of well-known session cookies in a cookie header.
    Cookies,
    /// Values of `key=value`, `key: value` and the like in a text, where the key has a sensitive name.
    SecretPair,
}

impl Detector {
    /// Appends what it finds, as ranges of bytes, ascending and without overlap.
    pub fn find(&self, text: &str, out: &mut Vec<Range<usize>>) {
        let _ = (text, out);
    }
}
