//! What is written to the database leaves at once.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on (transact-rs/sqlx#4335, mended after it): the end of a COPY waits until the
//! database acknowledges what came before, which it puts off for 40 ms. Nothing of sqlx leads to its sockets, so they are
//! found among this process's own, by where they lead. Where that is not allowed, commits take those 40 ms.

/// Has all sockets that lead to a port send at once. May take milliseconds where there are many.
#[cfg(target_os = "linux")]
pub(super) fn set(port: u16) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if let Err(error) = linux::set(port) {
        TOLD.call_once(|| {
            tracing::warn!(
                %error,
                "this process may not set options of its sockets to the database: every commit takes 40 ms more than \
                 it must; allow pidfd_getfd in the container's seccomp profile, or connect over a Unix socket"
            );
        });
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
        let mut done = Ok(());
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
            let set =
                process::pidfd_getfd(&this, number, process::PidfdGetfdFlags::empty()).and_then(|socket| {
                    let peer = net::getpeername(&socket).ok().flatten();
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    let is_meant = peer.is_some_and(|peer| peer.port() == port)
                        && net::sockopt::socket_type(&socket)? == net::SocketType::STREAM;
                    if is_meant { net::sockopt::set_tcp_nodelay(&socket, true) } else { Ok(()) }
                });
            match set {
                // It was closed meanwhile.
                Ok(()) | Err(rustix::io::Errno::BADF) => {}
                Err(error) => done = Err(error.into()),
            }
        }
        done
    }
}
