use std::collections::HashMap;

use http::HeaderMap;
use secrecy::ExposeSecret as _;

use crate::{config::AuthConfig, error::Error, ingest::Caller};

/// The gateways that may call, by token.
#[derive(Debug, Default)]
pub struct Gateways {
    callers: HashMap<Token, Caller>,
}

/// A bearer token; never printed.
#[derive(PartialEq, Eq, Hash)]
struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Gateways {
    /// From the configuration; without any gateway everybody may call.
    pub fn new(config: &AuthConfig) -> Self {
        let callers = config.gateways.iter().map(|gateway| {
            let token = Token(gateway.token.expose_secret().as_bytes().to_vec());
            let caller =
                Caller { gateway_id: Some(gateway.gateway_id.clone()), farms: gateway.farms.clone().into() };
            (token, caller)
        });
        Self { callers: callers.collect() }
    }

    /// Who sends a call with these headers.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] without `authorization: Bearer <token>`, or with a token not known.
    pub(super) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        if self.callers.is_empty() {
            return Ok(Caller::default());
        }
        let Some(header) = headers.get(http::header::AUTHORIZATION) else {
            return Err(Error::Unauthenticated(
                "no credentials: send the metadata authorization: Bearer <token>",
            ));
        };
        let token = header.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        // Looked up by a keyed hash, so the time it takes tells nothing about a token.
        self.callers
            .get(&Token(token.to_vec()))
            .cloned()
            .ok_or(Error::Unauthenticated("the token is not one of this server's gateways"))
    }
}
