//! Files for an event that was sent before.

use super::*;

const MULTIPART: &str = "multipart/form-data; boundary=line";
const FILES: &str = "--line\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a.log\"\r\nContent-Type: text/plain\r\n\r\n\
    first\r\n--line\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnot a file\r\n\
    --line\r\nContent-Disposition: form-data; name=\"b\"; filename=\"b.bin\"\r\n\r\nsecond\r\n--line--\r\n";

async fn send(relay: &Relay, event: &str, content_type: &str, body: &'static str) -> Answer {
    let auth = format!("Sentry sentry_key={KEY}");
    let headers = [("x-sentry-auth", auth.as_str()), ("content-type", content_type)];
    relay.send(Method::POST, &format!("/api/7/events/{event}/attachments/"), &headers, body).await
}

#[tokio::test]
async fn every_file_of_the_form_becomes_an_attachment_of_the_event() {
    let relay = relay();
    let answer = send(&relay, ID, MULTIPART, FILES).await;
    assert_eq!((answer.status, answer.body.len()), (201, 0), "{:?}", answer.body);
    let record = relay.spooled().pop().unwrap();
    let envelope = Envelope::parse(record.body, 500).unwrap();
    assert_eq!(envelope.event_id().unwrap().to_string(), ID);
    let files: Vec<_> = envelope
        .items()
        .iter()
        .map(|item| (item.header_text("filename").unwrap(), String::from_utf8(item.payload().to_vec()).unwrap()))
        .collect();
    assert_eq!(files, [("a.log".to_owned(), "first".to_owned()), ("b.bin".to_owned(), "second".to_owned())]);
    assert_eq!(envelope.items()[0].header_text("content_type").as_deref(), Some("text/plain"));
}

#[tokio::test]
async fn what_is_no_form_is_refused_with_its_cause() {
    let relay = relay();
    for (event, content_type, body, cause) in [
        ("nonsense", MULTIPART, FILES, "invalid_event_id"),
        (ID, "text/plain", FILES, "invalid_multipart"),
        (ID, "multipart/form-data; boundary=other", FILES, "invalid_multipart"),
        (ID, MULTIPART, &FILES[..FILES.len() - 8], "invalid_multipart"),
    ] {
        let answer = send(&relay, event, content_type, body).await;
        assert_eq!((answer.status, answer.cause().as_str()), (400, cause), "{event} {content_type}");
    }
    assert!(relay.spooled().is_empty());
}
