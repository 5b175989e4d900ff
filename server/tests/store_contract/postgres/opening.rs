//! Databases that cannot be used: each is refused with what is wrong and the way out, and stays as it was.

use herdstream_server::store::postgres::{PostgresConfig, PostgresStore, ProfileChoice};
use herdstream_testkit::{Postgres, Timescale};

/// Why a database is refused.
async fn refusal(config: PostgresConfig) -> String {
    match PostgresStore::open(config).await {
        Ok(store) => panic!("it opened: {store:?}"),
        Err(error) => error.to_string(),
    }
}

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[tokio::test]
async fn a_url_that_is_none_or_leads_nowhere() {
    says(&refusal(PostgresConfig::new("mysql://x")).await, &["database.url", "postgres://USER"]);
    says(
        &refusal(PostgresConfig::new("postgres://127.0.0.1:1/x")).await,
        &["127.0.0.1:1/x", "host and port"],
    );
    let secret = refusal(PostgresConfig::new("postgres://u:hunter2@127.0.0.1:notaport/x")).await;
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[tokio::test]
async fn a_wrong_password_and_a_database_that_is_not_there() {
    let Some(server) = Postgres::options().passwords(true).start() else { return };
    let url = server.url_as("postgres", "wrong", "postgres");
    says(&refusal(PostgresConfig::new(url)).await, &["28P01", "user and password"]);
    says(&refusal(PostgresConfig::new(server.url_of("nowhere"))).await, &["nowhere", "createdb"]);
}

#[tokio::test]
async fn a_role_that_may_not_create() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.create_database();
    server.psql("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN PASSWORD 'reader'").unwrap();
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let config = PostgresConfig::new(server.url_as("reader", "reader", database));
    says(&refusal(config).await, &["42501", "GRANT CREATE ON DATABASE"]);
    server.psql_at(&url, &["CREATE SCHEMA iot AUTHORIZATION reader"]).unwrap();
    // A schema of its own is all it needs.
    PostgresStore::open(PostgresConfig::new(server.url_as("reader", "reader", database))).await.unwrap();
}

#[tokio::test]
async fn a_database_that_may_only_be_read() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.create_database();
    let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    server.psql(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).unwrap();
    says(&refusal(PostgresConfig::new(url)).await, &["read-only", "primary"]);
}

#[tokio::test]
async fn a_schema_of_a_later_version_or_another_profile() {
    let Some(server) = Postgres::shared() else { return };
    let config = PostgresConfig::new(server.create_database());
    let url = secrecy_of(&config);
    PostgresStore::open(config.clone()).await.unwrap();
    // Later, and compatible.
    server.psql_at(&url, &["UPDATE iot.schema_info SET version = 1000"]).unwrap();
    PostgresStore::open(config.clone()).await.unwrap();
    let version = server.psql_at(&url, &["SELECT version FROM iot.schema_info"]).unwrap();
    assert!(version.contains("1000"), "an older binary leaves the record: {version}");
    server.psql_at(&url, &["UPDATE iot.schema_info SET compatible_from = 999"]).unwrap();
    says(&refusal(config.clone()).await, &["version 1000", "999", "later"]);
    server.psql_at(&url, &["UPDATE iot.schema_info SET compatible_from = 1"]).unwrap();
    let other = PostgresConfig { profile: ProfileChoice::Timescale, ..config };
    says(&refusal(other).await, &["'postgres'", "'timescale'", "database.profile"]);
}

#[tokio::test]
async fn a_profile_that_the_database_cannot_carry() {
    let Some(server) = Postgres::shared() else { return };
    let config =
        PostgresConfig { profile: ProfileChoice::Timescale, ..PostgresConfig::new(server.create_database()) };
    says(&refusal(config.clone()).await, &["'timescale'", "no TimescaleDB"]);
    // A schema of timescale on a server that has lost the extension.
    let url = secrecy_of(&config);
    PostgresStore::open(PostgresConfig { profile: ProfileChoice::Postgres, ..config.clone() }).await.unwrap();
    server.psql_at(&url, &["UPDATE iot.schema_info SET profile = 'timescale'"]).unwrap();
    says(&refusal(PostgresConfig { profile: ProfileChoice::Auto, ..config }).await, &["no TimescaleDB"]);
}

/// A database that says it has TimescaleDB, as far as its catalogue tells, without a library of it.
fn pretended(server: &Postgres, version: &str) -> String {
    let url = server.create_database();
    let create = format!(
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) \
         VALUES (99999, 'timescaledb', 10, 'public'::regnamespace, false, '{version}')"
    );
    server.psql_at(&url, &["SET allow_system_table_mods = on", &create]).unwrap();
    url
}

#[tokio::test]
async fn an_extension_that_is_not_preloaded() {
    let Some(server) = Postgres::shared() else { return };
    let config = PostgresConfig::new(pretended(server, "2.29.0"));
    for profile in [ProfileChoice::Auto, ProfileChoice::Timescale] {
        let message = refusal(PostgresConfig { profile, ..config.clone() }).await;
        says(&message, &["not loaded", "shared_preload_libraries", "database.profile = \"postgres\""]);
    }
    // The way out that it names.
    PostgresStore::open(PostgresConfig { profile: ProfileChoice::Postgres, ..config }).await.unwrap();
}

#[tokio::test]
async fn an_extension_of_the_wrong_licence_or_version() {
    let Some(server) = Postgres::shared() else { return };
    let cases = [
        ("2.29.0", "apache", ["'apache'", "timescaledb.license = 'timescale'"]),
        ("2.16.1", "timescale", ["older than 2.17", "ALTER EXTENSION timescaledb UPDATE"]),
    ];
    for (version, licence, parts) in cases {
        let config = PostgresConfig::new(pretended(server, version));
        let url = secrecy_of(&config);
        let database = url.rsplit('/').next().unwrap().split('?').next().unwrap();
        let set = format!("ALTER DATABASE {database} SET timescaledb.license = '{licence}'");
        server.psql_at(&url, &[&set]).unwrap();
        says(
            &refusal(PostgresConfig { profile: ProfileChoice::Timescale, ..config.clone() }).await,
            &[&parts[..], &["cannot be used"]].concat(),
        );
        // Without being asked for it, the store does without, and says why.
        let store = PostgresStore::open(config).await.unwrap();
        assert_eq!(store.facts().profile.as_str(), "postgres");
        says(&store.facts().reason, &parts);
    }
}

#[tokio::test]
async fn the_profile_is_found_and_told() {
    if let Some(server) = Postgres::shared() {
        let store = PostgresStore::open(PostgresConfig::new(server.create_database())).await.unwrap();
        let facts = store.facts();
        assert_eq!((facts.profile.as_str(), facts.extension_version.as_deref()), ("postgres", None));
        says(&facts.reason, &["no TimescaleDB"]);
    }
    if let Some(timescale) = Timescale::start() {
        let config = PostgresConfig { pool_min: 1, pool_max: 1, ..PostgresConfig::new(timescale.url()) };
        let store = PostgresStore::open(config).await.unwrap();
        let facts = store.facts();
        assert_eq!((facts.profile.as_str(), facts.licence.as_deref()), ("timescale", Some("timescale")));
    }
}

fn secrecy_of(config: &PostgresConfig) -> String {
    use secrecy::ExposeSecret as _;
    config.url.expose_secret().to_owned()
}
