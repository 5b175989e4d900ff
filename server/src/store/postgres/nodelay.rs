//! What is written to the database leaves at once.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on (transact-rs/sqlx#4335, mended after it): the end of a COPY waits until the
//! database acknowledges what came before, which it puts off for 40 ms. Nothing of sqlx leads to its sockets, so they are
//! found among this process's own, by where they lead. Where that is not allowed, commits take those 40 ms.

/// Has all sockets that lead to a port send at once.
#[cfg(target_os = "linux")]
pub(super) fn set(port: u16) {
    match linux::set(port) {
        Ok(()) => {}
        Err(error) => tracing::debug!(%error, "a commit takes 40 ms more than it must"),
    }
}

/// Other systems keep what they have.
#[cfg(not(target_os = "linux"))]
pub(super) fn set(_port: u16) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, io, net::SocketAddr};

    use rustix::{net, process};

    pub(super) fn set(port: u16) -> io::Result<()> {
        let this = process::pidfd_open(process::getpid(), process::PidfdFlags::empty())?;
        for entry in fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            let is_socket = fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if !is_socket {
                continue;
            }
            let socket = match process::pidfd_getfd(&this, number, process::PidfdGetfdFlags::empty()) {
                // It was closed meanwhile.
                Err(rustix::io::Errno::BADF) => continue,
                socket => socket?,
            };
            let peer = net::getpeername(&socket).ok().flatten();
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            if peer.is_some_and(|peer| peer.port() == port) {
                net::sockopt::set_tcp_nodelay(&socket, true)?;
            }
        }
        Ok(())
    }
}
