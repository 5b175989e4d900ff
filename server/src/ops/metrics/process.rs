//! Figures of the process itself, under the names every Prometheus dashboard knows.

use std::{fs, time::SystemTime};

use super::METERS;

/// Now, in seconds since 1970: asked for when the metrics are set up, which a server does at its start.
pub(super) fn start_time() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Brings the figures up to date.
pub(super) fn observe() {
    if let Some(bytes) = resident_bytes() {
        METERS.resident.set(bytes as f64);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        METERS.descriptors.set(descriptors.count() as f64);
    }
}

/// Memory in use; none where the system does not tell.
pub(in super::super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
