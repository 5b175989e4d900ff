//! `herdstream-loadtest`: loads a Herdstream server with simulated farms, measures, and proves that
//! nothing was lost or doubled.

mod cli;
mod output;
mod place;
mod query;
mod run;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

/// Exit code of a run that could not be made.
const COULD_NOT_RUN: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    let command = Cli::parse().command;
    let done = async {
        match command {
            Command::Run(args) => run::run(&args).await,
            Command::Limit(args) => run::limit(&args).await,
            Command::Query(args) => query::query(&args).await,
        }
    };
    // Dropping what is under way stops the server and removes what was on disk.
    let done = tokio::select! {
        done = done => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        () = terminated() => Err(anyhow::anyhow!("terminated")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("herdstream-loadtest: {error:#}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        // Not to be heard of: as if it never came.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
