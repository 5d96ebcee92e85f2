#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;

use picket_common::identity::{self, Fingerprint, Validity};
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::database::Database;

const HOUR: Duration = Duration::from_secs(3600);
const LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

fn now() -> Timestamp {
    Timestamp::parse("2026-11-22T14:00:00Z").unwrap()
}

async fn fleet() -> (TempDir, Fleet) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
    let authorities = Authorities::open_or_create(&directory.path().join("authority"), now()).unwrap();
    let fleet = Fleet::new(&database, authorities);
    (directory, fleet)
}

fn signing_request() -> String {
    let key = KeyPair::generate().unwrap();
    // Names that the authority must not take over.
    let params = CertificateParams::new(vec![picket_common::wire::SERVER_NAME.to_owned()]).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn join_request(token: &JoinToken, hostname: &str) -> JoinRequest {
    JoinRequest {
        secret: token.secret.clone(),
        csr_pem: signing_request(),
        hostname: hostname.to_owned(),
        version: "0.1.0".to_owned(),
    }
}

async fn invite(fleet: &Fleet, name: Option<&str>, random: u8) -> JoinToken {
    fleet.invite(vec!["127.0.0.1:7443".to_owned()], name, HOUR, now(), [random; 16]).await.unwrap().token
}

#[tokio::test]
async fn a_token_is_good_for_one_relay() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let joined = fleet.join(&join_request(&token, "web-1"), LIFETIME, now(), [1; 16]).await.unwrap();
    assert_eq!(joined.name, "web-1");
    assert!(fleet.allowed().await.unwrap().contains(&joined.relay_id));
    let again = fleet.join(&join_request(&token, "web-2"), LIFETIME, now(), [2; 16]).await;
    assert!(matches!(again, Err(JoinError::UsedToken)));
    assert_eq!(fleet.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_many_that_use_a_token_at_once_one_wins() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let mut joining = tokio::task::JoinSet::new();
    for random in 0..8 {
        let (fleet, request) = (fleet.clone(), join_request(&token, "host"));
        joining.spawn(async move { fleet.join(&request, LIFETIME, now(), [random; 16]).await.is_ok() });
    }
    let won = joining.join_all().await.into_iter().filter(|joined| *joined).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn an_expired_and_an_unknown_token_are_told_apart() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let late = fleet.join(&join_request(&token, "host"), LIFETIME, now().plus(HOUR), [1; 16]).await;
    assert!(matches!(late, Err(JoinError::ExpiredToken)));
    let forged = JoinToken { secret: "00".repeat(16), ..token };
    let unknown = fleet.join(&join_request(&forged, "host"), LIFETIME, now(), [1; 16]).await;
    assert!(matches!(unknown, Err(JoinError::UnknownToken)));
}

#[tokio::test]
async fn a_join_that_fails_leaves_the_token_unused() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let garbage = JoinRequest { csr_pem: "no request".to_owned(), ..join_request(&token, "host") };
    assert!(matches!(fleet.join(&garbage, LIFETIME, now(), [1; 16]).await, Err(JoinError::Request(_))));
    fleet.join(&join_request(&token, "host"), LIFETIME, now(), [1; 16]).await.unwrap();
    // The id is taken, so that registering fails after the token was marked as used.
    let second = invite(&fleet, None, 2).await;
    let clash = fleet.join(&join_request(&second, "host"), LIFETIME, now(), [1; 16]).await;
    assert!(matches!(clash, Err(JoinError::Internal(_))));
    fleet.join(&join_request(&second, "host"), LIFETIME, now(), [2; 16]).await.unwrap();
}

#[tokio::test]
async fn the_database_holds_no_secret() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 0xab).await;
    let hashes: Vec<String> =
        sqlx::query_scalar("SELECT secret_hash FROM join_tokens").fetch_all(&fleet.pool).await.unwrap();
    assert_eq!(hashes.len(), 1);
    assert_ne!(hashes[0], token.secret);
    assert_eq!(token.secret, "ab".repeat(16));
}

#[tokio::test]
async fn a_token_lives_neither_for_ever_nor_not_at_all() {
    let (_directory, fleet) = fleet().await;
    for ttl in [Duration::ZERO, Duration::from_secs(366 * 24 * 3600)] {
        let invited = fleet.invite(vec!["a:1".to_owned()], None, ttl, now(), [1; 16]).await;
        assert!(matches!(invited, Err(FleetError::TimeToLive)), "{ttl:?}");
    }
}

#[tokio::test]
async fn names_are_the_tokens_else_the_hosts_and_are_made_distinct() {
    let (_directory, fleet) = fleet().await;
    let joins = [(Some("edge"), "web"), (None, "web"), (None, "web"), (None, " \n"), (Some("edge"), "")];
    let mut names = Vec::new();
    for (random, (name, hostname)) in (1_u8..).zip(joins) {
        let token = invite(&fleet, name, random).await;
        names.push(fleet.join(&join_request(&token, hostname), LIFETIME, now(), [random; 16]).await.unwrap().name);
    }
    assert_eq!(names, ["edge", "web", "web-2", "relay-4", "edge-2"]);
}

#[tokio::test]
async fn a_revoked_relay_is_not_allowed_and_watchers_are_told() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let relay = fleet.join(&join_request(&token, "host"), LIFETIME, now(), [1; 16]).await.unwrap().relay_id;
    let watcher = fleet.subscribe_revocations();
    assert_eq!(fleet.revoke(relay, now()).await.unwrap(), Revocation::Revoked);
    assert!(watcher.borrow().contains(&relay));
    assert!(!fleet.allowed().await.unwrap().contains(&relay));
    assert_eq!(fleet.relay(relay).await.unwrap().revoked_at, Some(now()));
    assert_eq!(fleet.revoke(relay, now()).await.unwrap(), Revocation::AlreadyRevoked);
    let stranger = RelayId::from_random([9; 16]);
    assert!(matches!(fleet.revoke(stranger, now()).await, Err(FleetError::UnknownRelay(id)) if id == stranger));
}

#[tokio::test]
async fn a_relay_that_was_seen_shows_when_and_in_which_version() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let relay = fleet.join(&join_request(&token, "host"), LIFETIME, now(), [1; 16]).await.unwrap().relay_id;
    fleet.touch(relay, Some("0.2.0"), now().plus(HOUR)).await.unwrap();
    fleet.touch(relay, None, now().plus(2 * HOUR)).await.unwrap();
    let row = fleet.relay(relay).await.unwrap();
    assert_eq!((row.version.as_str(), row.last_seen_at), ("0.2.0", Some(now().plus(2 * HOUR))));
}

#[test]
fn a_relay_certificate_carries_its_id_and_nothing_from_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(directory.path(), now()).unwrap();
    let relay = RelayId::from_random([5; 16]);
    let request = authority::SigningRequest::parse(&signing_request()).unwrap();
    let signed = authority.sign_relay(&request, relay, LIFETIME, now()).unwrap();
    let certificate = identity::certificate_from_pem(&signed.certificate_pem).unwrap();
    assert_eq!(identity::relay_id_of(&certificate).unwrap(), relay);
    assert_eq!(signed.not_after, now().plus(LIFETIME));
    let validity = Validity::of_certificate(&certificate).unwrap();
    assert_eq!(validity, Validity { not_before: now().minus(HOUR), not_after: signed.not_after });
    let text = String::from_utf8_lossy(&certificate);
    assert!(!text.contains(picket_common::wire::SERVER_NAME), "a relay could pose as the server");
}

#[test]
fn a_signing_request_with_a_forged_signature_is_refused() {
    let pem = signing_request();
    let mut lines: Vec<_> = pem.lines().collect();
    // The last line of base64 is part of the signature.
    let position = lines.len() - 2;
    let forged: String = lines[position].chars().rev().collect();
    lines[position] = &forged;
    assert!(authority::SigningRequest::parse(&lines.join("\n")).is_err());
    assert!(authority::SigningRequest::parse(&"x".repeat(100_000)).is_err());
}

#[test]
fn the_authority_is_the_same_after_a_restart_and_its_key_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let first = Authority::open_or_create(directory.path(), now()).unwrap();
    let second = Authority::open_or_create(directory.path(), now().plus(HOUR)).unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    assert_eq!(Fingerprint::of_certificate(first.certificate()).unwrap(), second.fingerprint());
    let mode = std::fs::metadata(directory.path().join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{first:?}").contains("PRIVATE"));
}

#[test]
fn a_crash_between_key_and_certificate_keeps_the_fingerprint() {
    let directory = tempfile::tempdir().unwrap();
    let before = Authority::open_or_create(directory.path(), now()).unwrap().fingerprint();
    std::fs::remove_file(directory.path().join("certificate.pem")).unwrap();
    // A half-written file of the attempt that crashed.
    std::fs::write(directory.path().join("certificate.new"), "half").unwrap();
    assert_eq!(Authority::open_or_create(directory.path(), now()).unwrap().fingerprint(), before);
}

#[test]
fn an_unusable_authority_is_refused_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    Authority::open_or_create(directory.path(), now()).unwrap();
    let key = directory.path().join("key.pem");

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let exposed = Authority::open_or_create(directory.path(), now());
    assert!(matches!(exposed, Err(AuthorityError::KeyExposed { mode: 0o640, .. })));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    std::fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let mismatched = Authority::open_or_create(directory.path(), now());
    assert!(matches!(mismatched, Err(AuthorityError::Mismatch { .. })));

    std::fs::remove_file(&key).unwrap();
    let missing = Authority::open_or_create(directory.path(), now());
    assert!(matches!(missing, Err(AuthorityError::KeyMissing { .. })));
}

#[test]
fn the_servers_chain_ends_in_the_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(directory.path(), now()).unwrap();
    let server = authority.issue_server(now()).unwrap();
    assert_eq!(server.chain.last(), Some(authority.certificate()));
}

#[test]
fn a_short_lived_certificate_is_not_past_two_thirds_of_its_life_when_it_is_signed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(directory.path(), now()).unwrap();
    let request = authority::SigningRequest::parse(&signing_request()).unwrap();
    let relay = RelayId::from_random([5; 16]);
    for lifetime in [Duration::from_secs(60), HOUR, 2 * HOUR, LIFETIME] {
        let signed = authority.sign_relay(&request, relay, lifetime, now()).unwrap();
        let validity =
            Validity::of_certificate(&identity::certificate_from_pem(&signed.certificate_pem).unwrap()).unwrap();
        assert_eq!(validity.not_after, now().plus(lifetime));
        assert!(validity.not_before <= now().minus(lifetime.min(HOUR) / 3), "{validity:?}");
        assert!(now().since(validity.not_before) * 2 < validity.lifetime(), "{validity:?}");
    }
}

#[test]
fn no_certificate_outlives_the_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(directory.path(), now()).unwrap();
    let request = authority::SigningRequest::parse(&signing_request()).unwrap();
    let late = authority.validity().not_after.minus(HOUR);
    let signed = authority.sign_relay(&request, RelayId::from_random([5; 16]), LIFETIME, late).unwrap();
    assert_eq!(signed.not_after, authority.validity().not_after);
}

#[tokio::test]
async fn a_renewed_certificate_names_the_same_relay_and_is_noted() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let relay = fleet.join(&join_request(&token, "host"), LIFETIME, now(), [1; 16]).await.unwrap().relay_id;
    let later = now().plus(LIFETIME * 2 / 3);
    let renewed = fleet.renew(relay, &signing_request(), LIFETIME, later).await.unwrap();
    let certificate = identity::certificate_from_pem(&renewed.certificate_pem).unwrap();
    assert_eq!(identity::relay_id_of(&certificate).unwrap(), relay);
    assert_eq!(renewed.not_after, later.plus(LIFETIME));
    assert_eq!(fleet.relay(relay).await.unwrap().certificate_not_after, renewed.not_after);
    let count = "SELECT COUNT(*) FROM relay_certificates";
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&fleet.pool).await.unwrap(), 2);
    // What has expired is forgotten with the next one.
    fleet.renew(relay, &signing_request(), LIFETIME, now().plus(LIFETIME + HOUR)).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&fleet.pool).await.unwrap(), 2);
}

#[tokio::test]
async fn no_certificate_is_renewed_for_a_relay_that_is_revoked_or_unknown() {
    let (_directory, fleet) = fleet().await;
    let token = invite(&fleet, None, 1).await;
    let relay = fleet.join(&join_request(&token, "host"), LIFETIME, now(), [1; 16]).await.unwrap().relay_id;
    fleet.revoke(relay, now()).await.unwrap();
    for relay in [relay, RelayId::from_random([9; 16])] {
        let refused = fleet.renew(relay, &signing_request(), LIFETIME, now()).await;
        assert!(matches!(refused, Err(RenewError::NotAllowed)), "{refused:?}");
    }
    let garbage = fleet.renew(relay, "no request", LIFETIME, now()).await;
    assert!(matches!(garbage, Err(RenewError::Request(_))));
}
