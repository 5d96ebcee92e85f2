//! Opening, closing and losing the embedded engine, against the real library.
//!
//! One process may have one engine, so the cases run one after the other in a single test. Cases that need a second
//! process start this program again with [`CHILD`] set.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use clickhouse::Client;
use picket_aggregator::events::embedded::{Engine, EngineError, EngineOptions, library};

/// Set in a child process: the data path that it shall hold until it is killed.
const CHILD: &str = "PICKET_TEST_ENGINE_CHILD";

/// Set in a child process: the data path that it shall open and not close before it exits with [`EXIT_STATUS`].
const EXITING_CHILD: &str = "PICKET_TEST_ENGINE_EXITING_CHILD";

const EXIT_STATUS: i32 = 7;

const PATIENCE: Duration = Duration::from_secs(20);

fn library_path() -> PathBuf {
    library::find(None).unwrap_or_else(|error| panic!("{error}"))
}

async fn open(data: &Path) -> Result<Engine, EngineError> {
    Engine::open(&library_path(), data, EngineOptions::default()).await
}

async fn run(client: &Client, sql: &str) {
    client.query(sql).execute().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn rows(client: &Client) -> u64 {
    client.query("SELECT count() FROM kept").fetch_one().await.unwrap()
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS kept (a UInt64) ENGINE = MergeTree ORDER BY a \
    SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 1000";

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_opens_closes_and_opens_again() {
    if let Some(path) = env::var_os(CHILD) {
        hold_until_killed(Path::new(&path)).await;
    }
    if let Some(path) = env::var_os(EXITING_CHILD) {
        let _engine = open(Path::new(&path)).await.unwrap();
        std::process::exit(EXIT_STATUS);
    }
    let data = tempfile::tempdir().unwrap();
    closing_and_opening_again_keeps_the_data(data.path()).await;
    a_query_that_needs_too_much_memory_fails_alone(data.path()).await;
    a_second_engine_in_the_process_is_refused(data.path()).await;
    a_path_that_another_process_holds_is_refused_by_name(data.path()).await;
    what_was_answered_survives_a_kill(data.path()).await;
    a_process_that_exits_without_closing_does_not_crash(data.path()).await;
    closing_cancels_a_query_that_takes_too_long(data.path()).await;
    an_impossible_path_is_refused().await;
}

async fn closing_and_opening_again_keeps_the_data(data: &Path) {
    for opened in 0..3 {
        let engine = open(data).await.unwrap();
        let client = engine.client();
        run(&client, CREATE).await;
        assert_eq!(rows(&client).await, opened * 1000);
        run(&client, "INSERT INTO kept SELECT number FROM numbers(1000)").await;

        engine.close(PATIENCE).await.unwrap();

        assert!(client.query("SELECT 1").fetch_one::<u8>().await.is_err(), "a closed engine answers nothing");
        engine.close(PATIENCE).await.expect("closing twice is no error");
    }
}

async fn a_query_that_needs_too_much_memory_fails_alone(data: &Path) {
    let engine = open(data).await.unwrap();
    let client = engine.client();

    let query = client.query("SELECT length(groupArray(number)) FROM numbers(2000000000)");
    let error = query.fetch_one::<u64>().await.unwrap_err().to_string();

    assert!(error.contains("Code: 241."), "{error}");
    assert_eq!(rows(&client).await, 3000);
    engine.close(PATIENCE).await.unwrap();
}

async fn a_second_engine_in_the_process_is_refused(data: &Path) {
    let engine = open(data).await.unwrap();
    let other = tempfile::tempdir().unwrap();

    let error = open(other.path()).await.unwrap_err();

    assert!(matches!(error, EngineError::AlreadyOpen { .. }), "{error}");
    engine.close(PATIENCE).await.unwrap();
}

async fn a_path_that_another_process_holds_is_refused_by_name(data: &Path) {
    let mut holder = start_holder(data);

    let error = open(data).await.unwrap_err();

    assert!(matches!(error, EngineError::InUse { holder: named, .. } if named == holder.id()), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
}

async fn what_was_answered_survives_a_kill(data: &Path) {
    let mut holder = start_holder(data);
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    // The holder prints the number of rows after each answered insert.
    let answered: u64 = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("rows ")?.parse().ok().filter(|rows| *rows >= 50))
        .unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();

    let engine = open(data).await.unwrap();
    let kept: u64 = engine.client().query("SELECT count() FROM kept WHERE a >= 1000000").fetch_one().await.unwrap();
    engine.close(PATIENCE).await.unwrap();

    assert!(kept >= answered, "{kept} rows are there, {answered} were answered");
}

/// The library's destructors used to run against its own background threads: about one exit in ten died of SIGSEGV.
async fn a_process_that_exits_without_closing_does_not_crash(data: &Path) {
    for _ in 0..5 {
        let mut child = Command::new(env::current_exe().unwrap());
        let status = child.env(EXITING_CHILD, data).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(EXIT_STATUS), "{status}");
    }
}

async fn closing_cancels_a_query_that_takes_too_long(data: &Path) {
    let engine = open(data).await.unwrap();
    let client = engine.client();
    let query =
        tokio::spawn(
            async move { client.query("SELECT count() FROM numbers(1000000000000)").fetch_one::<u64>().await },
        );
    let client = engine.client();
    while client
        .query("SELECT count() FROM system.processes WHERE query LIKE '%1000000000000%' AND query NOT LIKE '%system%'")
        .fetch_one::<u64>()
        .await
        .unwrap()
        == 0
    {
        tokio::task::yield_now().await;
    }

    let started = Instant::now();
    engine.close(Duration::from_millis(200)).await.unwrap();

    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(query.await.unwrap().is_err());
}

async fn an_impossible_path_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();

    let error = open(&file.path().join("data")).await.unwrap_err();

    assert!(matches!(error, EngineError::DataPath { .. }), "{error}");
}

/// Starts this program as a second process and waits until it holds the path.
fn start_holder(data: &Path) -> Child {
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = holder.stdout.as_mut().unwrap();
    let mut byte = [0];
    let mut line = Vec::new();
    // Byte by byte, so that nothing beyond the line is taken from the pipe.
    while !line.ends_with(b"holding\n") {
        std::io::Read::read_exact(stdout, &mut byte).expect("the second process ended before it held the path");
        line.push(byte[0]);
    }
    assert!(fs::read_to_string(data.join("status")).unwrap().contains(&holder.id().to_string()));
    holder
}

async fn hold_until_killed(data: &Path) {
    let engine = open(data).await.unwrap();
    let client = engine.client();
    run(&client, CREATE).await;
    println!("holding");
    for number in 1_000_000_u64.. {
        let mut insert = client.insert_formatted_with("INSERT INTO kept FORMAT RowBinary");
        insert.send(number.to_le_bytes().to_vec().into()).await.unwrap();
        insert.end().await.unwrap();
        println!("rows {}", number - 999_999);
    }
}
