//! URLs of databases, `postgres://user:password@host:port/database?parameters`, taken apart.

/// The URL with another database.
pub fn with_database(url: &str, database: &str) -> String {
    let (place, parameters) = split(url);
    let end = place[authority(place)..].find('/').map_or(place.len(), |at| authority(place) + at);
    format!("{}/{database}{parameters}", &place[..end])
}

/// Host, port and database: what a report may say.
pub fn named(url: &str) -> String {
    let (place, _) = split(url);
    let place = &place[authority(place)..];
    place.rsplit_once('@').map_or(place, |(_, place)| place).to_owned()
}

/// The URL up to its parameters, and these with their question mark.
fn split(url: &str) -> (&str, &str) {
    url.split_at(url.find('?').unwrap_or(url.len()))
}

/// Where user, host and port begin.
fn authority(place: &str) -> usize {
    place.find("://").map_or(0, |at| at + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_replaced_and_a_password_is_not_named() {
        for (url, replaced, name) in [
            ("postgres://me:p@ss@host:5433/farm", "postgres://me:p@ss@host:5433/other", "host:5433/farm"),
            ("postgres://host", "postgres://host/other", "host"),
            (
                "postgresql://me@host/a?sslmode=disable&x=/",
                "postgresql://me@host/other?sslmode=disable&x=/",
                "host/a",
            ),
        ] {
            assert_eq!(with_database(url, "other"), replaced);
            assert_eq!(named(url), name);
        }
    }
}
