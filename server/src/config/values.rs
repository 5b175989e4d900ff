//! How values are written in configuration files.

use std::net::SocketAddr;

use secrecy::SecretString;
use serde::{
    Deserialize as _, Deserializer, Serializer,
    de::{Error as _, Unexpected},
};

/// What stands in place of a secret.
const REDACTED: &str = "***";

/// Writes `"***"` whatever the secret.
pub(super) fn redacted<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

/// Likewise, for a secret that may be absent.
#[expect(clippy::ref_option, reason = "the signature serde asks for")]
pub(super) fn redacted_option<S: Serializer>(
    _: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(REDACTED)
}

/// Sizes such as `"8MiB"`, written exactly: rounded ones would not load to the same value.
pub(super) mod size {
    use bytesize::ByteSize;
    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, Unexpected},
    };

    const EXPECTED: &str = "a size such as \"8MiB\"";

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a size such as \"8MiB\"")]
    enum Written {
        Bytes(u64),
        Text(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
    pub(in super::super) fn serialize<S: Serializer>(
        size: &ByteSize,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&exact(*size))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ByteSize, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(ByteSize::b(bytes)),
            Written::Text(text) => {
                text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
            }
        }
    }

    /// The size in the largest unit that divides it.
    pub(in super::super) fn exact(size: ByteSize) -> String {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let bytes = size.as_u64();
        UNITS
            .into_iter()
            .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
            .map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
    }
}

/// Durations such as `"20s"`, written exactly and in one unit: `"60d"`, not months and a rest.
pub(super) mod duration {
    use std::time::Duration;

    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, Unexpected},
    };

    const EXPECTED: &str = "a duration such as \"20s\"";

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a duration such as \"20s\"")]
    enum Written {
        Text(String),
    }

    pub(in super::super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&exact(*duration))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let Written::Text(text) = Written::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &EXPECTED))
    }

    /// The duration in the largest unit that divides it.
    pub(in super::super) fn exact(duration: Duration) -> String {
        const UNITS: [(u128, &str); 6] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
        ];
        let nanos = duration.as_nanos();
        if nanos == 0 {
            return "0s".to_owned();
        }
        UNITS
            .into_iter()
            .find(|(unit, _)| nanos.is_multiple_of(*unit))
            .map_or_else(|| format!("{nanos}ns"), |(unit, name)| format!("{}{name}", nanos / unit))
    }
}

/// A duration, or `"off"`.
pub(super) mod duration_or_off {
    use std::time::Duration;

    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, Unexpected},
    };

    use super::duration;

    const OFF: &str = "off";

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(in super::super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, serializer),
            None => serializer.serialize_str(OFF),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == OFF {
            return Ok(None);
        }
        let expected = "a duration such as \"90d\", or \"off\"";
        let parsed = humantime::parse_duration(&text);
        parsed.map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}

/// An address.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "an address such as \"127.0.0.1:7171\"";
    text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
}

/// An address, or `"off"`.
pub(super) mod address_or_off {
    use std::net::SocketAddr;

    use serde::{
        Deserialize, Deserializer, Serializer,
        de::{Error, Unexpected},
    };

    const OFF: &str = "off";

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(in super::super) fn serialize<S: Serializer>(
        address: &Option<SocketAddr>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(OFF),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == OFF {
            return Ok(None);
        }
        let expected = "an address such as \"127.0.0.1:7172\", or \"off\"";
        text.parse().map(Some).map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
    }
}
