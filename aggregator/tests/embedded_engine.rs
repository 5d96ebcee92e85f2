//! The embedded engine behind the `clickhouse` client, against the real library.
//!
//! One process may have one engine, so all tests of this file share one, and one runtime; each has its own tables. What
//! needs an engine of its own is in `embedded_engine_life.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::future::Future;
use std::sync::LazyLock;

use clickhouse::error::Error;
use clickhouse::{Client, Compression, Row};
use picket_aggregator::events::embedded::{Credentials, Engine, EngineOptions, library};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use uuid::Uuid;

struct Fixture {
    runtime: Runtime,
    engine: Engine,
    _data: TempDir,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let data = tempfile::tempdir().unwrap();
    let library = library::find(None).unwrap_or_else(|error| panic!("{error}"));
    let engine = runtime.block_on(Engine::open(&library, data.path(), EngineOptions::default())).unwrap();
    Fixture { runtime, engine, _data: data }
});

/// Runs a test with a client of the shared engine.
fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F) {
    FIXTURE.runtime.block_on(test(FIXTURE.engine.client()));
}

/// An address where the shared engine listens, for user `picket` with password `correct horse`.
async fn listen() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let credentials = Credentials { user: "picket".to_owned(), password: "correct horse".to_owned() };
    tokio::spawn(FIXTURE.engine.serve_tcp(listener, credentials));
    format!("http://{address}")
}

async fn remote(compression: Compression) -> Client {
    Client::default()
        .with_url(listen().await)
        .with_user("picket")
        .with_password("correct horse")
        .with_compression(compression)
}

async fn run(client: &Client, sql: &str) {
    client.query(sql).execute().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn count(client: &Client, table: &str) -> u64 {
    client.query(&format!("SELECT count() FROM {table}")).fetch_one().await.unwrap()
}

fn reason_of<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::BadResponse(reason) => reason,
        other => panic!("not an answer of the engine: {other:?}"),
    }
}

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Event {
    #[serde(with = "clickhouse::serde::uuid")]
    id: Uuid,
    #[serde(with = "clickhouse::serde::time::datetime64::millis")]
    at: time::OffsetDateTime,
    level: String,
    release: Option<String>,
    tags: Vec<(String, String)>,
    counts: Vec<u32>,
    title: String,
}

const EVENT_COLUMNS: &str = "id UUID, at DateTime64(3, 'UTC'), level LowCardinality(String), \
    release LowCardinality(Nullable(String)), tags Map(LowCardinality(String), String), counts Array(UInt32), title String";

fn event(number: u32) -> Event {
    Event {
        id: Uuid::from_u128(u128::from(number) << 64 | 7),
        at: time::OffsetDateTime::from_unix_timestamp(1_700_000_000 + i64::from(number)).unwrap()
            + time::Duration::milliseconds(5),
        level: "error".to_owned(),
        release: number.is_multiple_of(2).then(|| format!("app@{number}")),
        tags: vec![("browser".to_owned(), "Fire 'fox'".to_owned()), ("os".to_owned(), "Li\\nux".to_owned())],
        counts: vec![number, 0, u32::MAX],
        title: format!("Fehler №{number}"),
    }
}

async fn insert_events(client: &Client, table: &str, events: &[Event]) -> Result<(), Error> {
    let mut insert = client.insert::<Event>(table).await?;
    for event in events {
        insert.write(event).await?;
    }
    insert.end().await
}

async fn read_events(client: &Client, table: &str) -> Vec<Event> {
    client.query(&format!("SELECT ?fields FROM {table} ORDER BY id")).fetch_all().await.unwrap()
}

#[test]
fn typed_rows_come_back_as_they_were_inserted() {
    with_client(async |client| {
        run(&client, &format!("CREATE TABLE typed ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id")).await;
        let events: Vec<Event> = (0..100).map(event).collect();

        insert_events(&client, "typed", &events).await.unwrap();

        assert_eq!(read_events(&client, "typed").await, events);
    });
}

#[test]
fn rows_also_come_back_without_validation() {
    with_client(async |client| {
        run(&client, &format!("CREATE TABLE unchecked ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id")).await;
        let client = client.with_validation(false);

        insert_events(&client, "unchecked", &[event(1), event(2)]).await.unwrap();

        assert_eq!(read_events(&client, "unchecked").await, [event(1), event(2)]);
    });
}

#[test]
fn inserted_text_is_never_run_as_sql() {
    with_client(async |client| {
        run(&client, &format!("CREATE TABLE hostile ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id")).await;
        let mut events: Vec<Event> = (0..20).map(event).collect();
        for event in &mut events {
            event.title =
                "\n\n; CREATE TABLE pwned (a Int8) ENGINE = Memory;\n\nCREATE TABLE pwned (a Int8) ENGINE = Memory\n\n"
                    .to_owned();
        }

        insert_events(&client, "hostile", &events).await.unwrap();

        assert_eq!(read_events(&client, "hostile").await, events);
        let pwned: u8 = client.query("EXISTS TABLE pwned").fetch_one().await.unwrap();
        assert_eq!(pwned, 0);
    });
}

#[test]
fn the_same_token_inserts_once_also_through_a_view() {
    with_client(async |client| {
        let durable =
            "SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1";
        run(&client, &format!("CREATE TABLE once ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id {durable}")).await;
        run(
            &client,
            "CREATE TABLE once_hourly (hour DateTime('UTC'), events UInt64) ENGINE = SummingMergeTree ORDER BY hour \
             SETTINGS non_replicated_deduplication_window = 1000",
        )
        .await;
        run(
            &client,
            "CREATE MATERIALIZED VIEW once_view TO once_hourly AS \
             SELECT toStartOfHour(at) AS hour, count() AS events FROM once GROUP BY hour",
        )
        .await;
        let events: Vec<Event> = (0..10).map(event).collect();
        let with_token = |token: &str| {
            client
                .clone()
                .with_setting("async_insert", "0")
                .with_setting("insert_deduplication_token", token)
                .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        };

        insert_events(&with_token("plan-1/once/2023"), "once", &events).await.unwrap();
        insert_events(&with_token("plan-1/once/2023"), "once", &events).await.unwrap();
        let after_repetition = (count(&client, "once").await, summed(&client).await);
        insert_events(&with_token("plan-2/once/2023"), "once", &events).await.unwrap();
        let after_new_token = (count(&client, "once").await, summed(&client).await);

        assert_eq!((after_repetition, after_new_token), ((10, 10), (20, 20)));
    });

    async fn summed(client: &Client) -> u64 {
        client.query("SELECT sum(events) FROM once_hourly").fetch_one().await.unwrap()
    }
}

#[test]
fn errors_of_the_engine_reach_the_caller() {
    with_client(async |client| {
        run(&client, "CREATE TABLE strict (a UInt8) ENGINE = MergeTree ORDER BY a").await;

        let unknown_table = reason_of(client.query("SELECT * FROM nowhere").fetch_all::<u8>().await);
        let syntax = reason_of(client.query("SELEC 1").execute().await);
        let two_statements = reason_of(client.query("SELECT 1; DROP TABLE strict").execute().await);
        let setting = reason_of(client.query("SELECT 1").with_setting("no_such_setting", "1").execute().await);
        let mut insert = client.insert_formatted_with("INSERT INTO strict FORMAT CSV");
        insert.send("1\nnot a number\n".into()).await.unwrap();
        let bad_data = reason_of(insert.end().await);

        assert!(unknown_table.starts_with("Code: 60.") && unknown_table.contains("UNKNOWN_TABLE"), "{unknown_table}");
        assert!(syntax.starts_with("Code: 62."), "{syntax}");
        assert!(
            two_statements.starts_with("Code: 62.") && two_statements.contains("multi-statements"),
            "{two_statements}"
        );
        assert!(setting.starts_with("Code: 115."), "{setting}");
        assert!(bad_data.contains("(at row 2)"), "{bad_data}");
        assert_eq!(count(&client, "strict").await, 0);
    });
}

#[test]
fn settings_databases_and_set_last_for_one_request() {
    with_client(async |client| {
        run(&client, "CREATE DATABASE other").await;
        run(&client, "CREATE TABLE other.only_there (a UInt8) ENGINE = MergeTree ORDER BY a").await;
        let threads = "SELECT toUInt64(getSetting('max_threads'))";
        let defaults = EngineOptions::default();

        let in_other = count(&client.clone().with_database("other"), "only_there").await;
        let changed: u64 = client.query(threads).with_setting("max_threads", "7").fetch_one().await.unwrap();
        run(&client, "SET max_threads = 5").await;

        assert_eq!((in_other, changed), (0, 7));
        for _ in 0..2 * defaults.query_threads {
            let restored: u64 = client.query(threads).fetch_one().await.unwrap();
            assert_eq!(restored, defaults.threads_per_query as u64);
            assert!(client.query("SELECT count() FROM only_there").fetch_one::<u64>().await.is_err());
        }
    });
}

#[test]
fn parameters_are_bound_by_the_engine() {
    with_client(async |client| {
        let text = "it's; DROP\\TABLE";

        let query = client.query("SELECT {text:String}, {number:UInt32} + 1").param("text", text).param("number", 41);
        let (same, number): (String, u64) = query.fetch_one().await.unwrap();
        let bound: String = client.query("SELECT ?").bind(text).fetch_one().await.unwrap();

        assert_eq!((same.as_str(), number, bound.as_str()), (text, 42, text));
    });
}

#[test]
fn an_insert_that_is_dropped_has_no_effect() {
    with_client(async |client| {
        run(&client, &format!("CREATE TABLE dropped ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id")).await;

        let mut insert = client.insert::<Event>("dropped").await.unwrap();
        for number in 0..20_000 {
            insert.write(&event(number)).await.unwrap();
        }
        drop(insert);
        insert_events(&client, "dropped", &[event(1)]).await.unwrap();

        assert_eq!(count(&client, "dropped").await, 1);
    });
}

#[test]
fn eight_queries_run_at_once_with_four_threads() {
    with_client(async |client| {
        let sums = (0..8_u64).map(|offset| {
            let client = client.clone();
            tokio::spawn(async move {
                let query = client.query("SELECT sum(number + ?) FROM numbers(3000000)").bind(offset);
                query.fetch_one::<u64>().await.unwrap()
            })
        });
        let sums: Vec<_> = sums.collect();

        for (offset, sum) in (0..8).zip(sums) {
            assert_eq!(sum.await.unwrap(), 4_499_998_500_000 + 3_000_000 * offset);
        }
    });
}

#[derive(Debug, Row, Serialize)]
struct Payload<'a> {
    number: u64,
    json: &'a str,
}

async fn insert_fifty_megabytes(client: &Client, table: &str) {
    run(
        client,
        &format!("CREATE TABLE {table} (number UInt64, json String CODEC(ZSTD(1))) ENGINE = MergeTree ORDER BY number"),
    )
    .await;
    let json = "{\"exception\": \"something\n\n happened\"} ".repeat(512);
    let rows = 50 * 1024 * 1024 / json.len() as u64 + 1;

    let mut insert = client.insert::<Payload<'_>>(table).await.unwrap();
    for number in 0..rows {
        insert.write(&Payload { number, json: &json }).await.unwrap();
    }
    insert.end().await.unwrap();

    let query = client.query(&format!("SELECT count(), sum(number), sum(length(json)) FROM {table}"));
    let (stored, numbers, bytes): (u64, u64, u64) = query.fetch_one().await.unwrap();
    assert_eq!((stored, numbers, bytes), (rows, rows * (rows - 1) / 2, rows * json.len() as u64));
}

#[test]
fn fifty_megabytes_go_in_at_once() {
    with_client(async |client| insert_fifty_megabytes(&client, "large").await);
}

#[test]
fn a_large_result_comes_out_whole() {
    with_client(async |client| {
        let numbers: Vec<u64> = client.query("SELECT number FROM numbers(2000000)").fetch_all().await.unwrap();

        assert!(numbers.into_iter().eq(0..2_000_000));
    });
}

#[test]
fn a_result_beyond_the_bound_is_an_error() {
    with_client(async |client| {
        for column in ["repeat('x', 1000000)", "concat(toString(number), repeat('x', 1000000))"] {
            let sql = format!("SELECT {column} FROM numbers(400)");
            let query = client.query(&sql).with_setting("max_block_size", "10");

            let reason = reason_of(query.fetch_all::<String>().await.map(|rows| rows.len()));

            assert!(reason.starts_with("Code: 396."), "{column}: {reason}");
        }
    });
}

#[test]
fn another_process_would_see_the_same_over_tcp() {
    with_client(async |local| {
        for (table, compression) in [("plain", Compression::None), ("lz4", Compression::Lz4)] {
            let client = remote(compression).await;
            run(&client, &format!("CREATE TABLE remote_{table} ({EVENT_COLUMNS}) ENGINE = MergeTree ORDER BY id"))
                .await;
            let events: Vec<Event> = (0..5_000).map(event).collect();

            insert_events(&client, &format!("remote_{table}"), &events).await.unwrap();

            assert!(read_events(&client, &format!("remote_{table}")).await == events, "{table}");
            assert!(read_events(&local, &format!("remote_{table}")).await == events, "{table}");
            let reason = reason_of(client.query("SELECT * FROM nowhere").fetch_all::<u8>().await);
            assert!(reason.starts_with("Code: 60."), "{table}: {reason}");
        }
    });
}

#[test]
fn fifty_megabytes_go_in_over_tcp_with_lz4() {
    with_client(async |_| insert_fifty_megabytes(&remote(Compression::Lz4).await, "large_lz4").await);
}

#[test]
fn a_wrong_or_missing_password_is_refused() {
    with_client(async |local| {
        run(&local, "CREATE TABLE guarded (a UInt8) ENGINE = MergeTree ORDER BY a").await;
        let nobody = Client::default().with_url(listen().await);
        let clients = [
            nobody.clone(),
            nobody.clone().with_user("picket"),
            nobody.clone().with_user("picket").with_password("wrong"),
            nobody.clone().with_user("default").with_password("correct horse"),
        ];

        for client in clients {
            let reading = reason_of(client.query("SELECT 1").fetch_one::<u8>().await);
            let mut insert = client.insert_formatted_with("INSERT INTO guarded FORMAT CSV");
            let writing = async {
                insert.send("1\n".into()).await?;
                insert.end().await
            };
            let writing = reason_of(writing.await);

            assert!(reading.starts_with("Code: 516.") && writing.starts_with("Code: 516."), "{reading} {writing}");
        }
        assert_eq!(count(&local, "guarded").await, 0);
    });
}

#[test]
fn statements_may_come_in_the_url_the_body_or_both() {
    with_client(async |local| {
        let post = async |path: &str, body: &'static str| {
            let client: hyper_util::client::legacy::Client<_, http_body_util::Full<bytes::Bytes>> =
                hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
            let uri = format!("{}{path}", listen().await);
            let request = http::Request::post(uri)
                .header("x-clickhouse-user", "picket")
                .header("x-clickhouse-key", "correct horse");
            let response = client.request(request.body(body.into()).unwrap()).await.unwrap();
            let status = response.status().as_u16();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        run(&local, "CREATE TABLE by_hand (a UInt8, s String) ENGINE = MergeTree ORDER BY a").await;

        assert_eq!(post("/?query=SELECT+1", "").await, (200, "1\n".to_owned()));
        assert_eq!(post("/", "SELECT 1 FORMAT JSONEachRow").await, (200, "{\"1\":1}\n".to_owned()));
        assert_eq!(post("/?query=SELECT+1,", "2").await, (200, "1\t2\n".to_owned()));
        assert_eq!(post("/", "INSERT INTO by_hand VALUES (1, 'a;b'), (1 + 1, concat('c', 'd'))").await.0, 200);
        assert_eq!(post("/?query=INSERT+INTO+by_hand+FORMAT+CSV", "3,\"e\n\ne\"\n4,f\n").await.0, 200);
        assert_eq!(post("/?query=INSERT+INTO+by_hand+SELECT+5,'g'", "").await.0, 200);
        assert_eq!(
            post("/?default_format=CSV", "SELECT * FROM by_hand ORDER BY a").await,
            (200, "1,\"a;b\"\n2,\"cd\"\n3,\"e\n\ne\"\n4,\"f\"\n5,\"g\"\n".to_owned())
        );
        assert_eq!(post("/?session_id=1", "SELECT 1").await.0, 501);
        assert_eq!(post("/", "").await.0, 400);
    });
}
