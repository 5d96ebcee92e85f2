//! Nodes that register in one database.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

async fn database() -> (tempfile::TempDir, Database) {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
    (directory, database)
}

async fn register(database: &Database, number: u128, engine: Engine, now: Timestamp) -> Result<Node, NodeError> {
    Node::register(database, NodeId::from_number(number), &format!("node-{number}:7443"), engine, now).await
}

#[test]
fn an_identity_is_made_once_and_a_damaged_one_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node");
    let made = NodeId::open_or_create(&file).unwrap();
    assert_eq!(NodeId::open_or_create(&file).unwrap(), made);
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(NodeId::open_or_create(&file), Err(NodeError::Identity { .. })));
}

#[tokio::test]
async fn nodes_that_share_a_server_are_counted_and_may_come_back() {
    let (_directory, database) = database().await;
    let one = register(&database, 1, Engine::Server, NOW).await.unwrap();
    register(&database, 2, Engine::Server, NOW).await.unwrap();
    register(&database, 2, Engine::Server, NOW).await.unwrap();
    assert_eq!(one.touch(NOW).await.unwrap(), 2);
}

#[tokio::test]
async fn a_node_with_an_embedded_engine_has_no_other_beside_it() {
    let (_directory, database) = database().await;
    let later = NOW.plus(Duration::from_secs(60));
    register(&database, 1, Engine::Embedded, NOW).await.unwrap();
    register(&database, 1, Engine::Embedded, later).await.unwrap();
    let refused = register(&database, 2, Engine::Server, later).await.unwrap_err().to_string();
    assert!(
        refused.contains("clickhouse.url") && refused.contains("the other's") && refused.contains("node-1"),
        "{refused}"
    );
    // It moves to a server, and others may come.
    register(&database, 1, Engine::Server, later).await.unwrap();
    register(&database, 2, Engine::Server, later).await.unwrap();
    let refused = register(&database, 3, Engine::Embedded, later).await.unwrap_err().to_string();
    assert!(refused.contains("this one's"), "{refused}");
    // What is gone for long keeps nobody away.
    register(&database, 3, Engine::Embedded, later.plus(RECENT)).await.unwrap();
}
