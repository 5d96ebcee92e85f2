//! The authorities of an installation: the one that signs and, until every relay has moved to it, the one before.
//!
//! ```text
//! data_dir/authority/
//! ├─ key.pem, certificate.pem      the first authority (`super::authority`)
//! ├─ 2/key.pem, 2/certificate.pem  the one that the first rotation made, and so on: the highest number signs
//! └─ 3.new/, 2.retired/            of a rotation or a retirement that a crash interrupted; removed at the next start
//!
//! one ──rotate──▶ two: relays are told both, renew with the new one ──retire──▶ one
//! ```
//!
//! Invariants:
//! - An authority is held whole or not at all: its directory gets its name by one rename, once its files are durable, and loses
//!   it by one before they are removed.
//! - At most two are held: a rotation waits until the one before is over.
//! - What is held in memory is what is on disk; [`Authorities::subscribe`] tells of each change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use picket_common::identity::{self, Fingerprint};
use picket_common::timestamp::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authority::{self, Authority, AuthorityError};
use crate::durable_file;

/// Authorities in force at a time: a rotation waits until the one before is over.
const MOST_HELD: usize = 2;
/// Suffix of a directory that is not an authority yet.
const NEW: &str = "new";
/// Suffix of a directory that is none any more.
const RETIRED: &str = "retired";

/// The authorities that are in force.
#[derive(Debug)]
pub struct Held {
    /// Signs.
    pub current: Arc<Authority>,
    /// What it signed is still good.
    pub former: Option<Arc<Authority>>,
}

// === impl Held ===

impl Held {
    /// All of them, the one that signs first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Authority>> {
        std::iter::once(&self.current).chain(&self.former)
    }

    /// The one that every relay knows which has not heard of the others.
    #[must_use]
    pub fn oldest(&self) -> &Arc<Authority> {
        self.former.as_ref().unwrap_or(&self.current)
    }

    /// Their fingerprints, that of the one that signs first.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        self.all().map(|authority| authority.fingerprint()).collect()
    }

    /// Their certificates as relays keep them, that of the one that signs first.
    #[must_use]
    pub fn certificates_pem(&self) -> String {
        self.all().map(|authority| authority.certificate_pem()).collect()
    }

    /// Which of them signed a certificate.
    #[must_use]
    pub fn signer_of(&self, certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
        let signed = |authority: &&Arc<Authority>| {
            identity::check_issuer([authority.certificate().clone()], certificate).is_ok()
        };
        self.all().find(signed).map(|authority| authority.fingerprint())
    }
}

/// The authorities of one installation. Clones share them.
#[derive(Debug, Clone)]
pub struct Authorities {
    directory: Arc<Path>,
    held: watch::Sender<Arc<Held>>,
    /// One change at a time.
    turn: Arc<Mutex<()>>,
}

// === impl Authorities ===

impl Authorities {
    /// Opens the authorities in `directory`, or makes one where there is none. Calls the random source of the system.
    ///
    /// # Errors
    /// [`AuthorityError`], each with what to do.
    pub fn open_or_create(directory: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        authority::make_directory(directory)?;
        let numbers = numbers(directory)?;
        let mut found = Vec::new();
        if numbers.is_empty() || authority::has_certificate(directory) {
            found.push(Arc::new(Authority::open_or_create(directory, now)?));
        } else {
            authority::remove_key(directory)?;
        }
        for number in numbers {
            found.push(Arc::new(Authority::open_or_create(&directory.join(number.to_string()), now)?));
        }
        if found.len() > MOST_HELD {
            return Err(AuthorityError::TooMany { directory: directory.to_owned(), found: found.len() });
        }
        let Some(current) = found.pop() else {
            return Err(AuthorityError::NotThere { directory: directory.to_owned() });
        };
        let held = Held { current, former: found.pop() };
        Ok(Self { directory: directory.into(), held: watch::Sender::new(Arc::new(held)), turn: Arc::default() })
    }

    /// What is in force.
    #[must_use]
    pub fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.borrow())
    }

    /// Changes with what is in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Held>> {
        self.held.subscribe()
    }

    /// Makes another authority, which signs from now on. Blocking.
    ///
    /// # Errors
    /// [`AuthorityError::RotationUnderWay`], or that it can't be made or written.
    pub(super) fn rotate(&self, now: Timestamp) -> Result<Arc<Held>, AuthorityError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        if let Some(former) = &held.former {
            return Err(AuthorityError::RotationUnderWay { former: former.fingerprint() });
        }
        // Its number is above that of the one in force, which is the only one.
        let number = numbers(&self.directory)?.last().map_or(2, |last| last + 1);
        let (beside, place) = (self.numbered(number, NEW), self.directory.join(number.to_string()));
        let current = Authority::open_or_create(&beside, now)?;
        let file_error = |source| AuthorityError::File { action: "write", path: place.clone(), source };
        std::fs::rename(&beside, &place).map_err(file_error)?;
        if let Err(source) = durable_file::sync_directory(&self.directory) {
            // Memory goes on without it, so the next start must not find it.
            let undone = std::fs::rename(&place, &beside).and_then(|()| std::fs::remove_dir_all(&beside));
            if let Err(failure) = undone {
                error!(path = %place.display(), %failure, "remove this directory: its authority was made, but is not in force");
            }
            return Err(file_error(source));
        }
        info!(authority = %current.fingerprint(), former = %held.current.fingerprint(), "another authority signs from now on");
        let next = Held { current: Arc::new(current), former: Some(Arc::clone(&held.current)) };
        Ok(self.hold(next))
    }

    /// Ends the former authority: its key is removed, and what it signed is not good any more. Blocking.
    ///
    /// # Errors
    /// [`AuthorityError::NothingToRetire`], or that its files can't be removed.
    pub(super) fn retire(&self) -> Result<Fingerprint, AuthorityError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held();
        let Some(former) = &held.former else { return Err(AuthorityError::NothingToRetire) };
        let numbers = numbers(&self.directory)?;
        // The last is in force; the one before it, if there is one, is the former. Else that is the first authority.
        match numbers.iter().rev().nth(1) {
            Some(number) => {
                let (place, beside) = (self.directory.join(number.to_string()), self.numbered(*number, RETIRED));
                let file_error = |source| AuthorityError::File { action: "remove", path: place.clone(), source };
                std::fs::rename(&place, &beside).map_err(file_error)?;
                durable_file::sync_directory(&self.directory).map_err(file_error)?;
                std::fs::remove_dir_all(&beside).map_err(file_error)?;
            }
            None => authority::remove(&self.directory)?,
        }
        info!(authority = %former.fingerprint(), "authority retired");
        self.hold(Held { current: Arc::clone(&held.current), former: None });
        Ok(former.fingerprint())
    }

    fn hold(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        self.held.send_replace(Arc::clone(&held));
        held
    }

    fn numbered(&self, number: u32, suffix: &str) -> PathBuf {
        self.directory.join(format!("{number}.{suffix}"))
    }
}

/// Whether a rotation has made any here.
pub(super) fn has_any(directory: &Path) -> Result<bool, AuthorityError> {
    Ok(directory.exists() && !numbers(directory)?.is_empty())
}

/// The numbers of the authorities in a directory, lowest first. Removes what a crash left half done.
fn numbers(directory: &Path) -> Result<Vec<u32>, AuthorityError> {
    let file_error = |source| AuthorityError::File { action: "read", path: directory.to_owned(), source };
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(file_error)? {
        let entry = entry.map_err(file_error)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (number, suffix) = name.split_once('.').map_or((name, None), |(number, suffix)| (number, Some(suffix)));
        let Ok(number) = number.parse::<u32>() else { continue };
        match suffix {
            None => numbers.push(number),
            Some(NEW | RETIRED) => {
                warn!(path = %entry.path().display(), "removing what an interrupted rotation left");
                std::fs::remove_dir_all(entry.path()).map_err(file_error)?;
            }
            Some(_) => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-11-22T14:00:00Z").unwrap()
    }

    fn open(directory: &Path) -> Authorities {
        Authorities::open_or_create(directory, now()).unwrap()
    }

    #[test]
    fn rotations_and_retirements_are_the_same_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = open(directory.path());
        let mut fingerprints = vec![authorities.held().current.fingerprint()];
        for round in 0..3 {
            authorities.rotate(now()).unwrap();
            assert!(matches!(authorities.rotate(now()), Err(AuthorityError::RotationUnderWay { .. })));
            let held = authorities.held().fingerprints();
            assert_eq!(held[1], fingerprints[round]);
            assert_eq!(open(directory.path()).held().fingerprints(), held, "round {round}");
            fingerprints.push(held[0]);
            assert_eq!(authorities.retire().unwrap(), fingerprints[round]);
            assert!(matches!(authorities.retire(), Err(AuthorityError::NothingToRetire)));
            assert_eq!(open(directory.path()).held().fingerprints(), [fingerprints[round + 1]], "round {round}");
        }
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), 4, "each has a key of its own");
        let keys = walk(directory.path()).into_iter().filter(|path| path.ends_with("key.pem")).count();
        assert_eq!(keys, 1, "retired keys are gone");
    }

    fn walk(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn what_a_crash_left_of_a_rotation_or_a_retirement_is_no_authority() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).held().fingerprints();
        std::fs::create_dir(directory.path().join("2.new")).unwrap();
        std::fs::write(directory.path().join("2.new/key.pem"), "half").unwrap();
        assert_eq!(open(directory.path()).held().fingerprints(), first);

        let authorities = open(directory.path());
        authorities.rotate(now()).unwrap();
        let second = authorities.held().current.fingerprint();
        // Retiring the first: its certificate is removed, then its key.
        std::fs::remove_file(directory.path().join("certificate.pem")).unwrap();
        assert_eq!(open(directory.path()).held().fingerprints(), [second]);
        assert!(!directory.path().join("key.pem").exists());

        let authorities = open(directory.path());
        authorities.rotate(now()).unwrap();
        let third = authorities.held().current.fingerprint();
        std::fs::rename(directory.path().join("2"), directory.path().join("2.retired")).unwrap();
        assert_eq!(open(directory.path()).held().fingerprints(), [third]);
    }

    #[test]
    fn a_third_authority_is_told_and_not_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = open(directory.path());
        authorities.rotate(now()).unwrap();
        Authority::open_or_create(&directory.path().join("3"), now()).unwrap();
        let opened = Authorities::open_or_create(directory.path(), now());
        assert!(matches!(opened, Err(AuthorityError::TooMany { found: 3, .. })), "{opened:?}");
    }

    #[test]
    fn the_signer_of_a_certificate_is_told_while_it_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let authorities = open(directory.path());
        let server = authorities.held().current.issue_server(now()).unwrap().chain[0].clone();
        let signer = authorities.held().current.fingerprint();
        let key = rcgen::KeyPair::generate().unwrap();
        let request =
            rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().pem().unwrap();
        let request = authority::SigningRequest::parse(&request).unwrap();
        let relay = picket_common::ids::RelayId::from_random([1; 16]);
        let lifetime = std::time::Duration::from_secs(3600);
        let signed = authorities.held().current.sign_relay(&request, relay, lifetime, now()).unwrap();
        let certificate = identity::certificate_from_pem(&signed.certificate_pem).unwrap();
        authorities.rotate(now()).unwrap();
        assert_eq!(authorities.held().signer_of(&certificate), Some(signer));
        assert_eq!(authorities.held().signer_of(&server), None, "a server's certificate is no relay's");
        authorities.retire().unwrap();
        assert_eq!(authorities.held().signer_of(&certificate), None);
    }
}
