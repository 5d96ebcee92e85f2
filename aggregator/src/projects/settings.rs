//! Reading and changing a project's settings.

use picket_common::project_config::ProjectSettings;
use serde_json::Value;

use super::{ProjectError, Projects, find, settings_of};
use crate::database::Database;

impl Projects {
    /// The settings of a project, by its id or slug.
    ///
    /// # Errors
    /// [`ProjectError::Unknown`] if there is none.
    pub async fn settings(&self, wanted: &str) -> Result<ProjectSettings, ProjectError> {
        let mut connection = self.database.pool().acquire().await?;
        let id = find(&mut connection, wanted).await?;
        let stored: String = sqlx::query_scalar("SELECT settings FROM projects WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
        settings_of(id, &stored)
    }

    /// Changes settings as [`ProjectSettings::changed`] says, and tells the relays. Returns what they are now.
    ///
    /// # Errors
    /// [`ProjectError::Settings`] naming what is wrong, [`ProjectError::Unknown`] if there is no such project; nothing is
    /// changed then.
    pub async fn change_settings(&self, wanted: &str, change: &Value) -> Result<ProjectSettings, ProjectError> {
        // IMMEDIATE: of two changes at once, the later one builds upon the other.
        let mut transaction = self.database.begin_write().await?;
        let id = find(&mut transaction, wanted).await?;
        let stored: String = sqlx::query_scalar("SELECT settings FROM projects WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *transaction)
            .await?;
        let settings = settings_of(id, &stored)?.changed(change)?;
        sqlx::query("UPDATE projects SET settings = $1 WHERE id = $2")
            .bind(settings.to_document().to_string())
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        Database::next(&mut transaction, "config_revision").await?;
        transaction.commit().await?;
        self.publish().await?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{NOW, projects};
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_change_is_stored_and_in_the_next_snapshot() {
        let (_directory, projects) = projects().await;
        let project = projects.create("Shop", None, NOW).await.unwrap();
        let before = projects.current().revision;
        let changed = projects.change_settings("shop", &json!({ "retentionDays": 30 })).await.unwrap();
        assert_eq!(projects.settings(&project.id.to_string()).await.unwrap(), changed);
        let snapshot = projects.current();
        assert!(snapshot.revision > before);
        assert_eq!(snapshot.projects[0].settings, changed);
    }

    #[tokio::test]
    async fn a_change_that_can_not_be_used_changes_nothing() {
        let (_directory, projects) = projects().await;
        projects.create("Shop", None, NOW).await.unwrap();
        let before = projects.current();
        let refused = projects.change_settings("shop", &json!({ "allowedDomains": [], "retentionDays": 0 })).await;
        assert!(matches!(&refused, Err(ProjectError::Settings(error)) if error.at == "retentionDays"), "{refused:?}");
        assert_eq!(projects.settings("shop").await.unwrap(), ProjectSettings::default());
        assert_eq!(projects.current(), before);
        let refused = projects.change_settings("shops", &json!({})).await;
        assert!(matches!(refused, Err(ProjectError::Unknown { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn settings_of_an_older_version_are_read_with_defaults_for_what_is_new() {
        let (_directory, projects) = projects().await;
        projects.create("Shop", None, NOW).await.unwrap();
        let older = r#"{"allowed_domains":["a.test"],"retention_days":30}"#;
        sqlx::query("UPDATE projects SET settings = $1").bind(older).execute(projects.database.pool()).await.unwrap();
        let settings = projects.settings("1").await.unwrap();
        let expected = ProjectSettings {
            allowed_domains: vec!["a.test".to_owned()],
            retention_days: 30,
            ..ProjectSettings::default()
        };
        assert_eq!(settings, expected);
    }
}
