//! How to send the first event: shown while there is none.

use picket_common::dsn::Dsn;

use crate::projects::Project;

/// The ways shown for a project.
#[derive(Debug)]
pub(crate) struct FirstSteps {
    /// The project that the examples name; without one, a project has to be made first.
    pub(crate) project: Option<ProjectSteps>,
}

/// The examples of a project.
#[derive(Debug)]
pub(crate) struct ProjectSteps {
    pub(crate) name: String,
    pub(crate) dsn: String,
    pub(crate) examples: Vec<Example>,
}

/// Something to paste.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) title: &'static str,
    pub(crate) code: String,
}

impl FirstSteps {
    /// Examples for a project; one whose keys are all disabled has none.
    pub(crate) fn new(project: Option<&Project>) -> Self {
        let project = project.and_then(|project| {
            let dsn: Dsn = project.dsn.parse().ok()?;
            let examples = vec![python(&dsn), node(&dsn), browser(&dsn), curl(&dsn)];
            Some(ProjectSteps { name: project.name.clone(), dsn: project.dsn.clone(), examples })
        });
        Self { project }
    }
}

fn python(dsn: &Dsn) -> Example {
    let code = format!(
        "python3 -m venv try-picket && . try-picket/bin/activate\n\
         pip install sentry-sdk\n\
         python3 - <<'END'\n\
         import sentry_sdk\n\
         sentry_sdk.init(\"{dsn}\")\n\
         1 / 0\n\
         END"
    );
    Example { title: "Python", code }
}

fn node(dsn: &Dsn) -> Example {
    let code = format!(
        "npm install @sentry/node\n\
         node -e '\n\
         const Sentry = require(\"@sentry/node\");\n\
         Sentry.init({{ dsn: \"{dsn}\" }});\n\
         Sentry.captureException(new Error(\"Hello from Node\"));\n\
         Sentry.flush(5000);\n\
         '"
    );
    Example { title: "Node", code }
}

fn browser(dsn: &Dsn) -> Example {
    let code = format!(
        "import * as Sentry from \"@sentry/browser\";\n\
         Sentry.init({{ dsn: \"{dsn}\" }});\n\
         Sentry.captureException(new Error(\"Hello from the browser\"));"
    );
    Example { title: "JavaScript in the browser", code }
}

/// An envelope by hand: a header line, an item header line, the event. Without an id, the relay makes one.
fn curl(dsn: &Dsn) -> Example {
    let code = format!(
        "curl '{url}' \\\n\
         \x20 -H 'X-Sentry-Auth: Sentry sentry_version=7, sentry_key={key}' \\\n\
         \x20 -H 'Content-Type: application/x-sentry-envelope' \\\n\
         \x20 --data-binary '{{}}\n\
         {{\"type\":\"event\"}}\n\
         {{\"message\":\"Hello from curl\",\"level\":\"error\",\"platform\":\"other\"}}'",
        url = dsn.envelope_url(),
        key = dsn.public_key(),
    );
    Example { title: "curl", code }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use picket_common::ids::ProjectId;
    use picket_common::timestamp::Timestamp;

    use super::*;

    fn project(dsn: &str) -> Project {
        Project {
            id: ProjectId::new(7),
            name: "Shop".to_owned(),
            slug: "shop".to_owned(),
            platform: None,
            dsn: dsn.to_owned(),
            created_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn every_example_names_the_projects_dsn_or_its_parts() {
        let dsn = "http://0123456789abcdef0123456789abcdef@127.0.0.1:3000/7";
        let steps = FirstSteps::new(Some(&project(dsn))).project.unwrap();
        for example in &steps.examples {
            assert!(example.code.contains("0123456789abcdef0123456789abcdef"), "{}", example.title);
            assert!(example.code.contains("127.0.0.1:3000"), "{}", example.title);
        }
        let curl = &steps.examples.last().unwrap().code;
        assert!(curl.contains("'http://127.0.0.1:3000/api/7/envelope/'"), "{curl}");
        let body = curl.split_once("--data-binary '").unwrap().1.trim_end_matches('\'');
        let lines: Vec<serde_json::Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_project_without_an_enabled_key_has_no_examples() {
        assert!(FirstSteps::new(Some(&project(""))).project.is_none());
        assert!(FirstSteps::new(None).project.is_none());
    }
}
