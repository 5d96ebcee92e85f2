//! The multipart parser never panics, holds no more than it says, and tells the same however the body is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use picket_common::multipart::{Event, MultipartError, Parser, boundary_of};

fn told(body: &[u8], size: usize) -> Result<Vec<u8>, MultipartError> {
    let mut told = Vec::new();
    let mut parser = Parser::new("b")?;
    for piece in body.chunks(size) {
        parser.push(piece, &mut |event| {
            match event {
                Event::Begin(header) => told.extend_from_slice(format!("<{header:?}>").as_bytes()),
                Event::Data(data) => told.extend_from_slice(data),
                Event::End => told.extend_from_slice(b"</>"),
            }
            Ok::<_, MultipartError>(())
        })?;
    }
    parser.finish().map(|()| told)
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, body)) = input.split_first() else { return };
    let _ = boundary_of(&String::from_utf8_lossy(body));
    assert_eq!(told(body, usize::from(size).max(1)), told(body, body.len().max(1)));
});
