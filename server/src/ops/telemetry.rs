//! Logs, written to standard error.

use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::config::{LogConfig, LogFormat};

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter has no meaning.
    #[error("log.filter = {filter:?}: {source}")]
    Filter {
        /// The filter.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else in this process did it already.
    #[error("logging was set up before: do it once, at the start of the process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends the logs of this process to standard error.
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|source| TelemetryError::Filter { filter: config.filter.clone(), source })?;
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> =
        vec![lines(config.format).with_filter(filter).boxed()];
    tracing_subscriber::registry().with(layers).try_init().map_err(TelemetryError::Twice)
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            lines.with_ansi(std::io::stderr().is_terminal()).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}
