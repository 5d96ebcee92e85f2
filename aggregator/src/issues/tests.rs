#![allow(clippy::unwrap_used)]
use super::*;
use crate::projects::Projects;

const NOW: Timestamp = Timestamp::from_millis(1_763_820_306_789);

struct Setting {
    _directory: tempfile::TempDir,
    database: Database,
    project: ProjectId,
}

async fn setting() -> Setting {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(&directory.path().join("picket.db")).await.unwrap();
    let projects = Projects::open(&database, "http://127.0.0.1:3000").await.unwrap();
    let project = projects.create("shop", None, NOW).await.unwrap().id;
    Setting { _directory: directory, database, project }
}

fn claim(project_id: ProjectId, title: &str, hashes: &[u8]) -> Claim {
    Claim {
        project_id,
        hashes: hashes.iter().map(|&byte| GroupingHash::from_bytes([byte; 16])).collect(),
        face: NewIssue {
            kind: "error",
            title: title.to_owned(),
            culprit: "shop.cart in add".to_owned(),
            level: "error".to_owned(),
            platform: "python".to_owned(),
            metadata: IssueMetadata { exception_type: Some("KeyError".to_owned()), ..IssueMetadata::default() },
            first_seen: NOW,
        },
    }
}

async fn assign(issues: &mut Issues, claims: &[Claim]) -> Vec<IssueId> {
    issues.assign(&claims.iter().collect::<Vec<_>>()).await.unwrap()
}

#[tokio::test]
async fn claims_with_a_common_hash_share_an_issue_and_others_do_not() {
    let setting = setting().await;
    let mut issues = Issues::new(&setting.database);
    let project = setting.project;
    let claims = [
        claim(project, "a", &[1, 2]),
        claim(project, "b", &[3]),
        claim(project, "c", &[4, 2]),
        claim(project, "d", &[4]),
    ];
    let ids = assign(&mut issues, &claims).await;
    assert_eq!(ids[0], ids[2]);
    assert_eq!(ids[0], ids[3]);
    assert_ne!(ids[0], ids[1]);
    let row = Issues::get(setting.database.pool(), ids[0]).await.unwrap().unwrap();
    assert_eq!((row.title.as_str(), row.short_number), ("a", 1));
    assert_eq!(row.metadata.exception_type.as_deref(), Some("KeyError"));
}

#[tokio::test]
async fn a_replay_by_another_worker_gives_the_same_ids() {
    let setting = setting().await;
    let claims = [claim(setting.project, "a", &[1]), claim(setting.project, "b", &[2])];
    let first = assign(&mut Issues::new(&setting.database), &claims).await;
    let replayed = assign(&mut Issues::new(&setting.database), &claims).await;
    assert_eq!(first, replayed);
}

#[tokio::test]
async fn workers_that_meet_the_same_new_hashes_at_once_make_one_issue_each() {
    let setting = setting().await;
    let claims: Vec<_> = (0..50).map(|byte| claim(setting.project, "x", &[byte])).collect();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut issues = Issues::new(&setting.database);
        let claims = claims.clone();
        workers.spawn(async move { assign(&mut issues, &claims).await });
    }
    let answers = workers.join_all().await;
    assert!(answers.iter().all(|ids| *ids == answers[0]));
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM issues").fetch_one(setting.database.pool()).await.unwrap();
    assert_eq!(count, 50);
}

#[tokio::test]
async fn a_text_finds_titles_and_culprits_literally() {
    let setting = setting().await;
    let mut issues = Issues::new(&setting.database);
    let claims = [claim(setting.project, "100% wrong", &[1]), claim(setting.project, "1000 wrong", &[2])];
    let ids = assign(&mut issues, &claims).await;
    let find = |text: &'static str| Issues::find(setting.database.pool(), text);
    assert_eq!(find("100%").await.unwrap(), [ids[0]]);
    assert_eq!(find("cart").await.unwrap().len(), 2);
    assert!(find("absent").await.unwrap().is_empty());
}
