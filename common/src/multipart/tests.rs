#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    header: PartHeader,
    data: Vec<u8>,
    is_complete: bool,
}

/// The parts of a body that is given in pieces of `size` bytes.
fn parts(body: &[u8], boundary: &str, size: usize) -> Result<Vec<Part>, MultipartError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut parser = Parser::new(boundary)?;
    for piece in body.chunks(size.max(1)) {
        parser.push(piece, &mut |event| {
            match event {
                Event::Begin(header) => parts.push(Part { header, data: Vec::new(), is_complete: false }),
                Event::Data(data) => parts.last_mut().unwrap().data.extend_from_slice(data),
                Event::End => parts.last_mut().unwrap().is_complete = true,
            }
            Ok::<_, MultipartError>(())
        })?;
    }
    parser.finish()?;
    Ok(parts)
}

fn header(name: &str, filename: Option<&str>, content_type: Option<&str>) -> PartHeader {
    PartHeader {
        name: name.to_owned(),
        filename: filename.map(ToOwned::to_owned),
        content_type: content_type.map(ToOwned::to_owned),
    }
}

const BODY: &[u8] = b"a preamble\r\n--XX  \r\ncontent-disposition: form-data; name=\"a\"\r\n\r\none\r\n--XX\r\n\
    Content-Type: text/plain; charset=x\r\nContent-Disposition: form-data; filename=\"C:\\dir\\f \\\"1\\\".dmp\"; name=b\r\n\
    \r\n\r\n--X\r\n-XX two\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n\r\n--XX--\r\nan epilogue --XX";

#[test]
fn parts_are_found_however_the_body_is_cut() {
    for size in [1, 2, 3, 5, 7, 11, 64, BODY.len()] {
        let found = parts(BODY, "XX", size).unwrap();
        let expected = [
            (header("a", None, None), &b"one"[..]),
            (header("b", Some("C:\\dir\\f \"1\".dmp"), Some("text/plain; charset=x")), &b"\r\n--X\r\n-XX two\r\n"[..]),
            (header("c", None, None), &b""[..]),
        ];
        assert!(found.iter().all(|part| part.is_complete));
        let found: Vec<_> = found.iter().map(|part| (part.header.clone(), &part.data[..])).collect();
        assert_eq!(found, expected, "in pieces of {size}");
    }
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    for (content_type, expected) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b;c\"", Some("a b;c")),
        ("multipart/mixed; boundary=----x ", Some("----x")),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("text/plain; boundary=abc", None),
        ("é", None),
    ] {
        assert_eq!(boundary_of(content_type).as_deref(), expected, "{content_type}");
    }
}

#[test]
fn what_is_broken_is_named() {
    let long = format!("--XX\r\nContent-Disposition: form-data; name={}", "x".repeat(MAX_HEADER_BYTES));
    for (body, expected) in [
        (&b""[..], MultipartError::Incomplete),
        (b"--XX", MultipartError::Incomplete),
        (b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nabc\r\n", MultipartError::Incomplete),
        (b"--XXY\r\n", MultipartError::AfterBoundary),
        (b"--XX\r\nContent-Type: text/plain\r\n\r\nabc\r\n--XX--", MultipartError::Header),
        (b"--XX\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--XX--", MultipartError::Header),
        (long.as_bytes(), MultipartError::HeaderTooLong),
    ] {
        for size in [1, 100, 100_000] {
            assert_eq!(parts(body, "XX", size).unwrap_err(), expected, "{}", String::from_utf8_lossy(body));
        }
    }
    assert_eq!(Parser::new("").unwrap_err(), MultipartError::Boundary);
    assert_eq!(Parser::new(&"x".repeat(201)).unwrap_err(), MultipartError::Boundary);
}

#[test]
fn a_long_part_is_not_held() {
    let mut parser = Parser::new("XX").unwrap();
    let mut told = 0;
    let mut tell = |event: Event<'_>| {
        if let Event::Data(data) = event {
            told += data.len();
        }
        Ok::<_, MultipartError>(())
    };
    parser.push(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n", &mut tell).unwrap();
    for _ in 0..100 {
        parser.push(&[b'x'; 100_000], &mut tell).unwrap();
        assert!(parser.pending.len() < 10 && parser.pending.capacity() <= MAX_HEADER_BYTES);
    }
    assert!(told > 9_999_990);
}

proptest! {
    #[test]
    fn what_is_told_does_not_depend_on_the_pieces(
        body in proptest::collection::vec(prop::sample::select(vec![
            "\r\n", "--", "--b", "\r\n--b", "\r\n--b--", "\r", " ", "x", "\r\n\r\n", "\n", "-",
            "--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n",
        ]), 0..20),
        size in 1_usize..40,
    ) {
        let body = body.concat().into_bytes();
        prop_assert_eq!(parts(&body, "b", size), parts(&body, "b", body.len()));
    }

    #[test]
    fn any_data_without_the_boundary_round_trips(
        data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..5),
        size in 1_usize..300,
    ) {
        let boundary = "a-boundary-that-random-bytes-do-not-hit";
        let mut body = Vec::new();
        for data in &data {
            body.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n").as_bytes());
            body.extend_from_slice(data);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{boundary}--").as_bytes());
        let found: Vec<_> = parts(&body, boundary, size).unwrap().into_iter().map(|part| part.data).collect();
        prop_assert_eq!(found, data);
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300), content_type in "\\PC{0,60}") {
        let _ = parts(&body, "b", 7);
        let _ = boundary_of(&content_type);
        let _ = PartHeader::read(&body);
    }
}
