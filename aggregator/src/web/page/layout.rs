//! What surrounds every page.

use crate::web::asset;

/// The facts that the surrounding template needs.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    /// The page's title, without the product's name.
    pub(crate) title: &'a str,
    /// Who is logged in; without one there is no navigation.
    pub(crate) viewer: Option<&'a str>,
    pub(crate) style_address: String,
    pub(crate) icon_address: &'static str,
}

impl<'a> Layout<'a> {
    /// Around a page for someone who is logged in.
    pub(crate) fn new(title: &'a str, viewer: &'a str) -> Self {
        Self { viewer: Some(viewer), ..Self::anonymous(title) }
    }

    /// Around a page for anybody.
    pub(crate) fn anonymous(title: &'a str) -> Self {
        Self { title, viewer: None, style_address: asset::style_address(), icon_address: asset::ICON_PATH }
    }
}
