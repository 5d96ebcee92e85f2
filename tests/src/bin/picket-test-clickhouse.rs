//! A ClickHouse server for tests: the embedded engine served over HTTP on loopback, with user and password.
//!
//! It has a process of its own because a process has one engine. SIGTERM closes the data in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use picket_aggregator::events::embedded::{Credentials, Engine, EngineOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long queries may take to end once it is told to stop.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Serves the embedded engine over HTTP.
#[derive(Parser)]
struct Arguments {
    /// Directory of the engine's data; made where it is missing.
    #[arg(long)]
    data_path: PathBuf,
    /// Path of libchdb.
    #[arg(long)]
    library: PathBuf,
    /// Address to listen on.
    #[arg(long)]
    listen: SocketAddr,
    /// User that is let in.
    #[arg(long)]
    user: String,
    /// The user's password.
    #[arg(long)]
    password: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let engine = Engine::open(&arguments.library, &arguments.data_path, EngineOptions::default()).await?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("can't listen on {} (--listen)", arguments.listen))?;
    let credentials = Credentials { user: arguments.user, password: arguments.password };
    let serving = tokio::spawn(engine.serve_tcp(listener, credentials));
    terminate.recv().await;
    engine.close(CLOSE_PATIENCE).await?;
    serving.await?;
    Ok(())
}
