//! The JSON of one event, as sentry-python with its Django integration would send it.

use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::random::SplitMix64;

use super::problem::{FrameText, Owner, Problem, Raised};
use super::vocabulary::{BROWSERS, LOGGERS, METHODS, NOUNS, PACKAGES, REGIONS, VERBS};

/// What is the same in all events of one generator.
pub(super) struct Surroundings {
    modules: Value,
}

/// One event while it is written: the facts that several of its parts repeat.
struct Scene<'a> {
    problem: &'a Problem,
    address: String,
    object_id: u64,
    user_id: u64,
    host: String,
    path: String,
    trace_id: String,
    at: OffsetDateTime,
}

// === impl Surroundings ===

impl Surroundings {
    pub(super) fn new(random: &mut SplitMix64) -> Self {
        let modules: Map<String, Value> =
            PACKAGES.iter().map(|&package| (package.to_owned(), Value::from(version(random)))).collect();
        Self { modules: Value::Object(modules) }
    }

    /// The event `event_id` of `problem`, which happened at `at`.
    pub(super) fn event(
        &self,
        problem: &Problem,
        event_id: &str,
        at: OffsetDateTime,
        random: &mut SplitMix64,
    ) -> Value {
        let object_id = random.within(10_000..=9_999_999);
        let scene = Scene {
            problem,
            address: format!("10.{}.{}.{}", random.within(0..=63), random.within(0..=255), random.within(1..=254)),
            object_id,
            user_id: random.within(1..=40_000),
            host: format!("web-{}.{}.shop.example", random.within(1..=12), random.pick(REGIONS)),
            path: problem.transaction.replace(&format!("{{{}_id}}", problem.noun), &object_id.to_string()),
            trace_id: random.hex(32),
            at,
        };
        let mut values = Vec::with_capacity(2);
        if let Some(cause) = &problem.cause {
            values.push(scene.exception(cause, random));
        }
        values.push(scene.exception(&problem.raised, random));
        json!({
            "event_id": event_id,
            "level": "error",
            "timestamp": timestamp(at),
            "platform": "python",
            "server_name": scene.host,
            "release": format!("shop@4.{}.0+{:07x}", problem.release_minor, problem.release_minor * 0x1F_31B7),
            "environment": if random.one_in(8) { "staging" } else { "production" },
            "transaction": problem.transaction,
            "transaction_info": {"source": "route"},
            "exception": {"values": values},
            "breadcrumbs": {"values": scene.breadcrumbs(random)},
            "request": scene.request(random),
            "user": scene.user(random),
            "contexts": scene.contexts(random),
            "tags": scene.tags(random),
            "extra": {"sys.argv": ["/srv/shop/bin/gunicorn", "shop.wsgi:application", "--workers", "4"]},
            "modules": self.modules,
            "sdk": {
                "name": "sentry.python.django",
                "version": "2.44.0",
                "packages": [{"name": "pypi:sentry-sdk", "version": "2.44.0"}],
                "integrations": [
                    "argv", "atexit", "celery", "dedupe", "django", "excepthook", "logging", "modules", "redis",
                    "stdlib", "threading",
                ],
            },
        })
    }
}

// === impl Scene ===

impl Scene<'_> {
    /// The value names an id and an address on purpose: a grouping that takes it literally makes an issue of each event.
    fn exception(&self, raised: &Raised, random: &mut SplitMix64) -> Value {
        let frames: Vec<Value> = raised.frames.iter().map(|text| self.frame(text, random)).collect();
        json!({
            "type": raised.kind,
            "module": raised.module,
            "value": format!(
                "could not {} {} {} for {}: answered {} after {} ms",
                self.problem.verb, self.problem.noun, self.object_id, self.address,
                random.within(400..=599), random.within(3..=30_000),
            ),
            "mechanism": {"type": "django", "handled": false},
            "stacktrace": {"frames": frames},
        })
    }

    fn frame(&self, text: &FrameText, random: &mut SplitMix64) -> Value {
        let root = match text.owner {
            Owner::Application => "/srv/shop",
            Owner::Library => "/usr/local/lib/python3.12/site-packages",
        };
        json!({
            "filename": text.filename,
            "abs_path": format!("{root}/{}", text.filename),
            "function": text.function,
            "module": text.module,
            "lineno": text.line,
            "pre_context": text.before,
            "context_line": text.failing,
            "post_context": text.after,
            "in_app": text.owner == Owner::Application,
            "vars": self.locals(text, random),
        })
    }

    fn locals(&self, text: &FrameText, random: &mut SplitMix64) -> Value {
        let mut vars = Map::new();
        let class = text.module.rsplit('.').next().unwrap_or("Handler");
        vars.insert("self".into(), json!(format!("<{} object at 0x7f{}>", text.module, random.hex(10))));
        if text.owner == Owner::Library {
            return Value::Object(vars);
        }
        vars.insert("request".into(), json!(format!("<WSGIRequest: POST '{}'>", self.path)));
        vars.insert("kwargs".into(), json!({format!("{}_id", self.problem.noun): self.object_id.to_string()}));
        for _ in 0..random.within(1..=4) {
            let name = format!("{}_{class}", random.pick(NOUNS));
            vars.insert(name, self.local(random));
        }
        Value::Object(vars)
    }

    fn local(&self, random: &mut SplitMix64) -> Value {
        match random.within(0..=5) {
            0 => json!(random.within(0..=100_000).to_string()),
            1 => json!(format!("'{} {}'", random.pick(VERBS), random.pick(NOUNS))),
            2 => json!(format!("Decimal('{}.{:02}')", random.within(0..=9_999), random.within(0..=99))),
            3 => json!({
                "id": random.within(1..=9_999_999).to_string(),
                "state": format!("'{}'", random.pick(VERBS)),
                "owner": format!("'{}@mail.example'", random.pick(NOUNS)),
            }),
            4 => json!([self.object_id.to_string(), random.within(1..=99).to_string(), "None"]),
            _ => json!(format!("<QuerySet [<{}: {}>]>", random.pick(NOUNS), random.within(1..=99_999))),
        }
    }

    fn breadcrumbs(&self, random: &mut SplitMix64) -> Vec<Value> {
        let count = random.within(6..=14) as i64;
        (0..count)
            .map(|position| {
                let before = Duration::milliseconds((count - position) * 13 + random.within(0..=9) as i64);
                let at = timestamp(self.at - before);
                if random.one_in(2) {
                    return json!({
                        "type": "default", "category": "query", "timestamp": at,
                        "message": format!(
                            "SELECT \"{0}\".\"id\", \"{0}\".\"state\" FROM \"{0}\" WHERE \"{0}\".\"{1}_id\" = %s",
                            random.pick(NOUNS), random.pick(NOUNS),
                        ),
                        "data": {"db.params": [random.within(1..=9_999_999)]},
                    });
                }
                json!({
                    "type": "log", "level": "info", "category": random.pick(LOGGERS), "timestamp": at,
                    "message": format!(
                        "{} {} {} in {} ms",
                        random.pick(VERBS), random.pick(NOUNS), random.within(1..=9_999_999), random.within(1..=900),
                    ),
                })
            })
            .collect()
    }

    fn request(&self, random: &mut SplitMix64) -> Value {
        json!({
            "url": format!("https://shop.example{}", self.path),
            "method": random.pick(METHODS),
            "query_string": format!("page={}&source={}", random.within(1..=40), random.pick(NOUNS)),
            "headers": {
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate, br",
                "Accept-Language": "en-GB,en;q=0.7",
                "Content-Type": "application/json",
                "Host": "shop.example",
                "Referer": format!("https://shop.example/{}/", self.problem.logger_app),
                "User-Agent": random.pick(BROWSERS),
                "X-Forwarded-For": self.address,
                "X-Request-Id": random.hex(32),
            },
            "cookies": {"csrftoken": random.hex(32), "theme": "light"},
            "env": {"REMOTE_ADDR": self.address, "SERVER_NAME": self.host, "SERVER_PORT": "8000"},
            "data": {
                "quantity": random.within(1..=12),
                self.problem.noun: self.object_id,
                "note": format!("please {} the {}", random.pick(VERBS), random.pick(NOUNS)),
            },
        })
    }

    fn user(&self, random: &mut SplitMix64) -> Value {
        json!({
            "id": self.user_id.to_string(),
            "username": format!("{}-{}", random.pick(NOUNS), self.user_id),
            "email": format!("user{}@mail.example", self.user_id),
            "ip_address": self.address,
        })
    }

    fn contexts(&self, random: &mut SplitMix64) -> Value {
        json!({
            "runtime": {"name": "CPython", "version": "3.12.11", "build": "3.12.11 (main, Jun  4 2025, 08:56:18) [GCC 12.2.0]"},
            "trace": {
                "trace_id": self.trace_id, "span_id": random.hex(16), "parent_span_id": random.hex(16),
                "op": "http.server", "origin": "auto.http.django",
                "data": {"thread.id": random.within(100_000..=999_999).to_string(), "thread.name": "ThreadPoolExecutor-0_0"},
            },
        })
    }

    fn tags(&self, random: &mut SplitMix64) -> Value {
        json!({
            "app": self.problem.logger_app,
            "region": random.pick(REGIONS),
            "tenant": format!("tenant-{}", random.within(1..=200)),
            "plan": random.pick(&["free", "team", "business"]),
            "feature.new_checkout": if random.one_in(3) { "on" } else { "off" },
            "worker": random.within(1..=16).to_string(),
        })
    }
}

fn version(random: &mut SplitMix64) -> String {
    format!("{}.{}.{}", random.within(0..=25), random.within(0..=40), random.within(0..=12))
}

/// RFC 3339 with the precision of the clock, as SDKs write it.
pub(super) fn timestamp(at: OffsetDateTime) -> String {
    // Only years beyond 9999 cannot be formatted; an empty text would be refused by any server and so be seen.
    at.format(&Rfc3339).unwrap_or_default()
}
