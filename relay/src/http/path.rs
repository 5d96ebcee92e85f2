//! Paths as SDKs write them: repeated slashes are folded, segments are taken as text.

use std::borrow::Cow;

use axum::http::Uri;
use axum::http::uri::PathAndQuery;

/// Folds repeated slashes in a request's path, as SDKs with a trailing slash in their DSN produce them.
pub fn fold_slashes<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    if let Cow::Owned(folded) = folded(request.uri().path()) {
        let path_and_query = match request.uri().query() {
            Some(query) => format!("{folded}?{query}"),
            None => folded,
        };
        // Fewer slashes make no valid address invalid; if they did, the address stays and finds no route.
        if let Ok(path_and_query) = PathAndQuery::try_from(path_and_query) {
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

fn folded(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut folded = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !folded.ends_with('/') {
            folded.push(character);
        }
    }
    Cow::Owned(folded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn repeated_slashes_are_folded_and_the_query_is_kept() {
        let request = fold_slashes(axum::http::Request::builder().uri("http://host//a//?q=//").body(()).unwrap());
        assert_eq!(request.uri(), "http://host/a/?q=//");
    }
}
