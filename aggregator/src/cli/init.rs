//! `picket-aggregator init`: prepares a data directory. Repeating it changes nothing that is there.

use std::io::Write;

use anyhow::Context as _;
use picket_common::timestamp::Timestamp;
use serde_json::json;

use crate::accounts::{check_login_name, random_password};
use crate::config::AggregatorConfig;
use crate::data_dir::DataDir;
use crate::fleet::Authorities;
use crate::stores::{Registry, open_events};

use super::{command, output};

/// What `init` came to.
struct Prepared {
    fingerprint: String,
    /// The first admin's, if it was made now.
    password: Option<String>,
    /// What serves from the directory, so that it had been prepared before.
    served: Option<String>,
}

/// Makes what is missing and prints the first admin's password if it was made now. `serve_command` is what to type next.
pub(super) async fn run(
    config: &AggregatorConfig,
    admin_email: &str,
    serve_command: &str,
    json: bool,
) -> anyhow::Result<()> {
    check_login_name(admin_email).context("--admin-email")?;
    let now = Timestamp::now();
    let directory = DataDir::new(&config.data_dir);
    let prepared = match command::serving(&directory).await {
        Some(status) => Prepared {
            // It is there, or nothing could serve.
            fingerprint: Authorities::open_or_create(&directory.authority(), now)?
                .held()
                .current
                .fingerprint()
                .to_string(),
            password: None,
            served: Some(output::already_serves(&status, &config.data_dir)),
        },
        None => prepare(config, &directory, admin_email, now).await?,
    };
    print(config, admin_email, &prepared, serve_command, json)
}

async fn prepare(
    config: &AggregatorConfig,
    directory: &DataDir,
    admin_email: &str,
    now: Timestamp,
) -> anyhow::Result<Prepared> {
    let locked = directory.lock()?;
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
    let fingerprint = registry.fleet.authority().fingerprint().to_string();
    registry.database.close().await;
    events.close().await?;
    Ok(Prepared { fingerprint, password, served: None })
}

fn print(
    config: &AggregatorConfig,
    admin_email: &str,
    prepared: &Prepared,
    serve_command: &str,
    json: bool,
) -> anyhow::Result<()> {
    let Prepared { fingerprint, password, served } = prepared;
    let mut out = std::io::stdout().lock();
    let data_dir = config.data_dir.display();
    if json {
        let facts = json!({
            "data_dir": data_dir.to_string(),
            "authority_fingerprint": fingerprint,
            "admin_email": password.as_ref().map(|_| admin_email),
            "admin_password": password,
        });
        return output::print_json(&mut out, &facts);
    }
    match password {
        Some(password) => writeln!(
            out,
            "prepared   {data_dir}\nauthority  {fingerprint}\nadmin      {admin_email}\npassword   {password}  (not shown again)"
        )?,
        None => writeln!(out, "{data_dir} is prepared already; nothing was changed")?,
    }
    match served {
        Some(served) => writeln!(out, "{served}")?,
        None => writeln!(out, "start with: {serve_command}")?,
    }
    Ok(())
}
