//! Pages of a list: the cursor, and the `Link` header that carries it.
//!
//! ```text
//! cursor = "0:" offset ":" 0|1            (value, offset, whether it leads backwards)
//! Link: <url&cursor=…>; rel="previous"; results="true|false"; cursor="…", <url&cursor=…>; rel="next"; results=…; cursor=…
//! ```
//!
//! Clients take the cursor as it is; they stop at `results="false"`.

use axum::http::HeaderValue;

use super::error::ApiError;

/// Rows of a page when the client does not say, and at most.
const LIMIT_MAX: u32 = 100;

/// Which page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) offset: u32,
    pub(crate) limit: u32,
}

impl Page {
    /// Reads `cursor`, and `limit` or `per_page`.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] for a cursor that was not made here and a limit outside 1 to 100.
    pub(crate) fn read(cursor: Option<&str>, limit: Option<&str>) -> Result<Self, ApiError> {
        let offset = cursor.filter(|cursor| !cursor.is_empty()).map_or(Ok(0), read_cursor)?;
        let limit = limit.map_or(Ok(LIMIT_MAX), |limit| {
            let limit = limit.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| ApiError::BadParameter(format!("limit: expected a number from 1 to {LIMIT_MAX}")))
        })?;
        Ok(Self { offset, limit })
    }

    /// The `Link` header beside this page. `address` is the one that was asked for, without its query; `query` is that
    /// query as it was sent.
    pub(crate) fn link(self, address: &str, query: Option<&str>, next_offset: Option<u32>) -> Option<HeaderValue> {
        let kept: String = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="))
            .map(|pair| format!("{pair}&"))
            .collect();
        let one = |rel: &str, has_results: bool, cursor: String| {
            format!(r#"<{address}?{kept}cursor={cursor}>; rel="{rel}"; results="{has_results}"; cursor="{cursor}""#)
        };
        let previous = one("previous", self.offset > 0, format!("0:{}:1", self.offset.saturating_sub(self.limit)));
        let next = next_offset.unwrap_or_else(|| self.offset.saturating_add(self.limit));
        let next = one("next", next_offset.is_some(), format!("0:{next}:0"));
        // A query of bytes that no header may carry goes without.
        HeaderValue::from_str(&format!("{previous}, {next}")).ok()
    }
}

fn read_cursor(cursor: &str) -> Result<u32, ApiError> {
    let offset = || {
        let mut parts = cursor.split(':');
        let (_value, offset, direction) = (parts.next()?, parts.next()?, parts.next()?);
        (parts.next().is_none() && matches!(direction, "0" | "1")).then(|| offset.parse().ok())?
    };
    offset().ok_or_else(|| ApiError::BadParameter("cursor: expected one from a Link header".to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_link_header_leads_on_and_back() {
        let page = Page::read(Some("0:100:0"), Some("50")).unwrap();
        assert_eq!(page, Page { offset: 100, limit: 50 });
        let link = page.link("http://host/api/0/issues/", Some("cursor=0:100:0&limit=50"), Some(150)).unwrap();
        assert_eq!(
            link,
            "<http://host/api/0/issues/?limit=50&cursor=0:50:1>; rel=\"previous\"; results=\"true\"; cursor=\"0:50:1\", \
             <http://host/api/0/issues/?limit=50&cursor=0:150:0>; rel=\"next\"; results=\"true\"; cursor=\"0:150:0\""
        );
    }

    #[test]
    fn the_first_and_only_page_leads_nowhere() {
        let page = Page::read(None, None).unwrap();
        let link = page.link("http://host/", None, None).unwrap();
        assert_eq!(link.to_str().unwrap().matches("results=\"false\"").count(), 2);
    }

    #[test]
    fn odd_cursors_and_limits_are_refused() {
        for cursor in ["x", "0:0", "0:-1:0", "0:1:2", "0:1:0:0", "0:99999999999:0"] {
            assert!(Page::read(Some(cursor), None).is_err(), "{cursor}");
        }
        for limit in ["0", "101", "-1", "", "ten"] {
            assert!(Page::read(None, Some(limit)).is_err(), "{limit}");
        }
    }

    proptest! {
        #[test]
        fn no_cursor_panics_and_a_given_one_is_read_back(cursor in "\\PC{0,20}", offset in any::<u32>()) {
            let _ = Page::read(Some(&cursor), None);
            prop_assert_eq!(Page::read(Some(&format!("0:{offset}:0")), None).unwrap().offset, offset);
        }
    }
}
