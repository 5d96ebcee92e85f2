//! Brings the ClickHouse schema up to date: numbered files, each applied once and noted in `schema_migrations`.
//!
//! ClickHouse has no transactional DDL, so every statement is written to be repeatable (`IF NOT EXISTS`, `MODIFY`), and a migration is
//! noted only after its last statement.

use clickhouse::Client;

use super::EventsError;

/// The migrations, oldest first. A number is never reused and a landed file never edited.
const MIGRATIONS: [(u32, &str); 2] = [
    (1, include_str!("../../migrations/clickhouse/0001_events.sql")),
    (2, include_str!("../../migrations/clickhouse/0002_outcome_stamps.sql")),
];

/// Applies what is missing.
pub(super) async fn run(client: &Client) -> Result<(), EventsError> {
    let failed = |source| EventsError::Migration { number: 0, source };
    client
        .query(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number UInt32, applied_at DateTime DEFAULT now())
             ENGINE = MergeTree ORDER BY number",
        )
        .execute()
        .await
        .map_err(failed)?;
    let applied: Vec<u32> = client.query("SELECT number FROM schema_migrations").fetch_all().await.map_err(failed)?;
    let newest = MIGRATIONS.last().map_or(0, |(number, _)| *number);
    if let Some(&unknown) = applied.iter().find(|number| **number > newest) {
        return Err(EventsError::NewerSchema { found: unknown, known: newest });
    }
    for (number, text) in MIGRATIONS {
        if applied.contains(&number) {
            continue;
        }
        for statement in statements(text) {
            client.query(statement).execute().await.map_err(|source| EventsError::Migration { number, source })?;
        }
        client
            .query("INSERT INTO schema_migrations (number) VALUES (?)")
            .bind(number)
            .execute()
            .await
            .map_err(|source| EventsError::Migration { number, source })?;
    }
    Ok(())
}

/// The statements of a file: they end with a semicolon at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_can_be_repeated_and_numbers_rise() {
        for (_, text) in MIGRATIONS {
            for statement in statements(text) {
                let code: String =
                    statement.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
                let creates = code.trim_start().starts_with("CREATE") && code.contains("IF NOT EXISTS");
                let sets = code.trim_start().starts_with("ALTER TABLE") && code.contains(" MODIFY ");
                assert!(creates || sets, "{code}");
                assert!(!code.contains('?'), "a question mark would be taken for a parameter: {code}");
            }
        }
        assert!(MIGRATIONS.is_sorted_by(|one, next| one.0 < next.0));
    }
}
