#![allow(clippy::unwrap_used)]
use super::*;
use serde::Deserialize;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    listen: String,
    workers: u32,
    spool: Section,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    max_bytes: ByteSize,
    linger: Span,
    networks: Vec<String>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { listen: "127.0.0.1:3000".to_owned(), workers: 2, spool: Section::default() }
    }
}

impl Default for Section {
    fn default() -> Self {
        Self { max_bytes: ByteSize::gib(1), linger: Span::millis(200), networks: Vec::new() }
    }
}

impl Validate for Sample {
    fn validate(&self) -> Result<(), InvalidValue> {
        if self.spool.max_bytes < ByteSize::mib(1) {
            return Err(InvalidValue::new("spool.max_bytes", "at least 1MiB is needed"));
        }
        Ok(())
    }
}

struct Written(tempfile::NamedTempFile);

fn file(text: &str) -> Written {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Written(file)
}

fn sources(file: Option<&Written>, env: &[(&str, &str)], overrides: Vec<Override>) -> Sources {
    Sources {
        file: file.map(|written| written.0.path().to_owned()),
        env_prefix: "PICKET_RELAY",
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        overrides,
    }
}

fn fault(text: &str, env: &[(&str, &str)]) -> String {
    let file = file(text);
    let message = load::<Sample>(&sources(Some(&file), env, vec![])).unwrap_err().to_string();
    message.replace(&file.0.path().display().to_string(), "FILE")
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = file("listen = 'file'\nworkers = 1\n[spool]\nmax_bytes = '2MiB'\n");
    let env = [
        ("PICKET_RELAY__WORKERS", "5"),
        ("PICKET_RELAY__LISTEN", "env"),
        ("PICKET_RELAY__SPOOL__NETWORKS", "[\"10.0.0.0/8\"]"),
        ("PICKET_RELAYS", "not ours"),
    ];
    let flags = vec![Override { flag: "--listen", key: "listen", value: Value::String("flag".to_owned()) }];
    let loaded: Sample = load(&sources(Some(&file), &env, flags)).unwrap();
    assert_eq!(loaded.listen, "flag");
    assert_eq!(loaded.workers, 5);
    assert_eq!(loaded.spool.max_bytes, ByteSize::mib(2));
    assert_eq!(loaded.spool.networks, ["10.0.0.0/8"]);
}

#[test]
fn without_any_source_the_defaults_hold() {
    assert_eq!(load::<Sample>(&sources(None, &[], vec![])).unwrap(), Sample::default());
}

#[test]
fn a_fault_in_the_file_names_line_and_key() {
    let unknown = fault("listen = 'x'\n\nlisten_on = 'y'\n", &[]);
    assert!(unknown.starts_with("FILE:3: ") && unknown.contains("listen_on"), "{unknown}");
    let wrong = fault("[spool]\n# the budget\nmax_bytes = 'lots'\n", &[]);
    assert!(wrong.starts_with("FILE:3: spool.max_bytes: ") && wrong.contains("64MiB"), "{wrong}");
    let refused = fault("[spool]\nmax_bytes = 5\n", &[]);
    assert_eq!(refused, "FILE:2: spool.max_bytes: at least 1MiB is needed");
    let syntax = fault("listen = 'x'\nworkers = = 2\n", &[]);
    assert!(syntax.starts_with("FILE:2: "), "{syntax}");
}

#[test]
fn a_fault_in_the_environment_names_the_variable() {
    let unknown = fault("", &[("PICKET_RELAY__NOPE", "1")]);
    assert!(unknown.starts_with("environment variable PICKET_RELAY__NOPE: ") && unknown.contains("nope"), "{unknown}");
    let refused = fault("", &[("PICKET_RELAY__SPOOL__MAX_BYTES", "1KiB")]);
    assert!(refused.contains("PICKET_RELAY__SPOOL__MAX_BYTES") && refused.contains("at least"), "{refused}");
}

#[test]
fn a_text_that_looks_like_a_number_stays_text_where_text_is_wanted() {
    let loaded: Sample = load(&sources(None, &[("PICKET_RELAY__LISTEN", "3000")], vec![])).unwrap();
    assert_eq!(loaded.listen, "3000");
}

#[test]
fn what_a_file_names_and_is_not_there_is_told_like_a_refused_value() {
    let written = file("workers = 2\nlisten = 'nowhere'\n");
    let sources = sources(Some(&written), &[], vec![]);
    let looked =
        load_with(&sources, |sample: &Sample| Err(InvalidValue::new("listen", format!("no {}", sample.listen))));
    assert_eq!(looked.unwrap_err().to_string(), format!("{}:2: listen: no nowhere", written.0.path().display()));
}

#[test]
fn a_missing_file_is_named() {
    let missing = Sources { file: Some("/nonexistent/relay.toml".into()), ..Sources::default() };
    assert!(load::<Sample>(&missing).unwrap_err().to_string().contains("/nonexistent/relay.toml"));
}
