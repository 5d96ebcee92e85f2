//! `picket-aggregator init`: prepares a data directory. Repeating it changes nothing that is there.

use std::io::Write;

use anyhow::bail;
use picket_common::timestamp::Timestamp;
use serde_json::json;

use crate::accounts::random_password;
use crate::config::AggregatorConfig;
use crate::data_dir::DataDir;
use crate::stores::{Registry, open_events};

/// Makes what is missing and prints the first admin's password if it was made now.
pub(super) async fn run(config: &AggregatorConfig, admin_email: &str, json: bool) -> anyhow::Result<()> {
    if admin_email.trim().is_empty() {
        bail!("--admin-email must not be empty");
    }
    let now = Timestamp::now();
    let locked = DataDir::new(&config.data_dir).lock()?;
    // The engine first: it is what is most likely missing, and then nothing else has been made yet.
    let events = open_events(&locked, config).await?;
    let registry = Registry::open(&locked, config, now).await?;
    let password = if registry.accounts.any_user().await? {
        None
    } else {
        let password = random_password()?;
        registry.accounts.create_user(admin_email, &password, now).await?;
        Some(password)
    };
    let fingerprint = registry.fleet.authority().fingerprint();
    registry.database.close().await;
    events.close().await?;

    let mut out = std::io::stdout().lock();
    let data_dir = config.data_dir.display();
    if json {
        let facts = json!({
            "data_dir": data_dir.to_string(),
            "authority_fingerprint": fingerprint,
            "admin_email": password.as_ref().map(|_| admin_email),
            "admin_password": password,
        });
        writeln!(out, "{facts}")?;
        return Ok(());
    }
    match password {
        Some(password) => {
            writeln!(
                out,
                "prepared {data_dir}\nauthority  {fingerprint}\nadmin      {admin_email}\npassword   {password}"
            )?;
            writeln!(out, "the password is not shown again; start with `picket-aggregator serve`")?;
        }
        None => writeln!(out, "{data_dir} is prepared already; nothing was changed")?,
    }
    Ok(())
}
