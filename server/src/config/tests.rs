use std::{fs, path::Path};

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

fn load(file: &str, environment: &[(&str, &str)], mut flags: Flags) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("barn.toml");
    fs::write(&path, file).expect("a file in it");
    flags.config = Some(path.clone());
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let place = path.display().to_string();
    Config::load_with(&flags, environment).map_err(|error| error.to_string().replace(&place, "barn.toml"))
}

fn fault(file: &str) -> String {
    load(file, &[], Flags::default()).expect_err("a fault")
}

#[test]
fn the_default_is_valid_and_local() {
    let config = load("", &[], Flags::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7171");
    assert_eq!(config.to_toml(), Config::default().to_toml());
}

#[test]
fn each_layer_overrides_the_one_below() {
    let file = "listen = '127.0.0.1:1'\nhttp_listen = '127.0.0.1:11'\n[store]\ndata_dir = 'from-file'\n\
                [ingest]\nbuffer = '64MiB'\nkeepalive = '30s'\nmax_streams = 7\n";
    let environment = [
        ("HERDSTREAM_LISTEN", "127.0.0.1:2"),
        ("HERDSTREAM_HTTP_LISTEN", "off"),
        ("HERDSTREAM_STORE__DATA_DIR", "from-environment"),
        ("HERDSTREAM_INGEST__MAX_STREAMS", "8"),
        ("HERDSTREAM_INGEST__MAX_OPENS_PER_SECOND", "100"),
        ("HERDSTREAM_DRAIN__ENDPOINTS", "[\"http://next:7171\"]"),
    ];
    let flags = Flags {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 3))),
        log_format: Some(LogFormat::Json),
        log_filter: Some("debug".to_owned()),
        ..Flags::default()
    };
    let config = load(file, &environment, flags).unwrap();
    assert_eq!(config.listen.port(), 3, "flag over environment over file");
    assert_eq!(config.http_listen, None, "environment over file");
    assert_eq!(config.store.data_dir, Path::new("from-environment"));
    assert_eq!(config.ingest.max_streams, 8);
    assert_eq!(config.ingest.max_opens_per_second, Some(100));
    assert_eq!(config.ingest.buffer, ByteSize::mib(64), "file over default");
    assert_eq!(config.ingest.keepalive, Duration::from_secs(30));
    assert_eq!(config.drain.endpoints, ["http://next:7171"]);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Json, "debug"));
}

#[test]
fn a_named_file_must_exist() {
    let flags = Flags { config: Some(PathBuf::from("/nowhere/barn.toml")), ..Flags::default() };
    let error = Config::load_with(&flags, []).expect_err("no such file").to_string();
    assert!(error.starts_with("cannot read configuration file /nowhere/barn.toml: "), "{error}");
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let error = fault("[ingest]\nbufer = '1MiB'\n");
    assert!(
        error.starts_with("unknown key \"bufer\" in [ingest]: known are buffer, stream_credit, "),
        "{error}"
    );
    assert!(error.ends_with("(set by barn.toml)"), "{error}");
    assert!(fault("lisen = 'x'").starts_with("unknown key \"lisen\": known are listen, "));
    let error = load("", &[("HERDSTREAM_INGEST__BUFER", "1MiB")], Flags::default()).unwrap_err();
    assert!(error.ends_with("(set by environment variable HERDSTREAM_INGEST__BUFER)"), "{error}");
}

#[test]
fn variables_of_others_are_left_alone() {
    let environment = [
        ("HERDSTREAM_PORT", "tcp://10.0.0.1:7171"),
        ("HERDSTREAM_PORT_7171_TCP_ADDR", "10.0.0.1"),
        ("HERDSTREAM_SERVICE_HOST", "10.0.0.1"),
        ("HERDSTREAM_TEST_TIMESCALE_URL", "postgres://localhost"),
        ("HERDSTREAM_CONFIG", "elsewhere.toml"),
        ("PATH", "/bin"),
    ];
    load("", &environment, Flags::default()).unwrap();
}

#[test]
fn values_of_the_wrong_kind_name_key_value_and_layer() {
    for (file, wanted) in [
        (
            "listen = 'here'",
            "listen = \"here\": expected an address such as \"127.0.0.1:7171\" (set by barn.toml)",
        ),
        (
            "http_listen = 'here'",
            "http_listen = \"here\": expected an address such as \"127.0.0.1:7172\", or \"off\" (set by barn.toml)",
        ),
        (
            "[ingest]\nmax_streams = 'many'",
            "ingest.max_streams = \"many\": expected usize (set by barn.toml)",
        ),
        ("[log]\nformat = 'xml'", "log.format = \"xml\": expected one of text, json (set by barn.toml)"),
        ("[drain]\ndeadline = 25", "drain.deadline: expected a duration such as \"20s\" (set by barn.toml)"),
        (
            "[ingest]\nbuffer = 'lots'",
            "ingest.buffer = \"lots\": expected a size such as \"8MiB\" (set by barn.toml)",
        ),
        (
            "[drain]\ndeadline = 'soon'",
            "drain.deadline = \"soon\": expected a duration such as \"20s\" (set by barn.toml)",
        ),
        ("[ingest]\nbuffer = true", "ingest.buffer: expected a size such as \"8MiB\" (set by barn.toml)"),
    ] {
        assert_eq!(fault(file), wanted);
    }
}

#[test]
fn a_syntax_error_names_the_place_and_keeps_the_text_to_itself() {
    let error = fault("listen = '127.0.0.1:1'\n[[auth.gateways]]\ntoken = \"hay-and-more-hay-1\n");
    assert!(error.starts_with("barn.toml:3:"), "{error}");
    assert!(!error.contains("hay"), "{error}");
}

#[test]
fn every_bound_is_checked_and_named() {
    // Key, value below or at fault, value just inside, and what the message says.
    let cases = [
        ("store.memtable", "'1023KiB'", "'1MiB'", "must be \"1MiB\" to \"1GiB\""),
        ("store.memtable", "'1025MiB'", "'1GiB'", "must be \"1MiB\" to \"1GiB\""),
        ("store.cache", "'1MB'", "'1MiB'", "must be \"1MiB\" to \"1TiB\""),
        ("store.journal", "'63MiB'", "'64MiB'", "must be \"64MiB\" to \"64GiB\""),
        ("store.min_free", "'15MiB'", "'16MiB'", "must be \"16MiB\" to \"1TiB\""),
        ("store.data_dir", "''", "'x'", "must name a directory"),
        ("ingest.buffer", "'7MiB'", "'8MiB'", "must be \"8MiB\" to \"64GiB\""),
        ("ingest.stream_credit", "'63KiB'", "'64KiB'", "must be \"64KiB\" to \"32MiB\""),
        ("ingest.stream_credit", "'33MiB'", "'32MiB'", "must be \"64KiB\" to \"32MiB\""),
        ("ingest.group_bytes", "'33MiB'", "'32MiB'", "must be \"64KiB\" to \"32MiB\""),
        ("ingest.max_streams", "0", "1", "must be 1 to 1000000"),
        ("ingest.max_series_per_producer", "0", "1", "must be 1 to 10000000"),
        ("ingest.max_opens_per_second", "0", "1", "must be at least 1, or absent"),
        ("ingest.max_writes_per_second", "0", "1", "must be at least 1, or absent"),
        ("ingest.accepted_lateness", "'59s'", "'1m'", "must be \"1m\" to \"3650d\""),
        ("ingest.max_ahead", "'25h'", "'0s'", "must be \"0s\" to \"1d\""),
        ("ingest.open_timeout", "'99ms'", "'100ms'", "must be \"100ms\" to \"1h\""),
        ("ingest.message_timeout", "'61m'", "'1h'", "must be \"100ms\" to \"1h\""),
        ("ingest.keepalive", "'999ms'", "'1s'", "must be \"1s\" to \"1h\""),
        ("ingest.idle_timeout", "'39s'", "'40s'", "must be \"40s\" to \"1d\""),
        ("drain.deadline", "'0s'", "'1s'", "must be \"1s\" to \"1h\""),
        ("rollups.interval", "'6m'", "'5m'", "must be \"1s\" to \"5m\""),
        ("rollups.close_after", "'61m'", "'0s'", "must be \"0s\" to \"1h\""),
        ("retention.readings", "'60d'", "'61d'", "accepted_lateness and a day"),
        ("retention.milkings", "'60d'", "'off'", "accepted_lateness and a day"),
        ("retention.rollup_15min", "'89d'", "'90d'", "not younger than retention.readings"),
        ("retention.rollup_hourly", "'89d'", "'off'", "not younger than retention.readings"),
        ("retention.rollup_daily", "'89d'", "'730d'", "not younger than retention.readings"),
        ("retention.quarantine", "'23h'", "'1d'", "a day"),
        ("retention.quiet", "'31d'", "'0s'", "must be \"0s\" to \"30d\""),
        ("retention.interval", "'59s'", "'1m'", "must be \"1m\" to \"1d\""),
        ("query.timeout", "'99ms'", "'100ms'", "must be \"100ms\" to \"1h\""),
        ("query.stall_timeout", "'61m'", "'1h'", "must be \"100ms\" to \"1h\""),
        ("query.slow", "'61m'", "'0s'", "must be \"0s\" to \"1h\""),
        ("admin_listen", "'127.0.0.1:7171'", "'off'", "is taken by listen"),
        ("admin_listen", "'10.0.0.1:7173'", "'[::1]:7173'", "must be a loopback address"),
        ("drain.endpoints", "['next:7171']", "['http://next:7171']", "must be a URL such as"),
        ("drain.endpoints", "['ftp://next']", "['https://next']", "must be a URL such as"),
        ("log.filter", "'herdstream=loudly'", "'herdstream=debug'", "expected one of"),
        ("http_listen", "'127.0.0.1:7171'", "'127.0.0.1:0'", "is taken by listen"),
        ("listen", "'0.0.0.0:7171'", "'[::1]:7171'", "nobody has to prove who they are"),
    ];
    for (key, wrong, right, wanted) in cases {
        let error = fault(&format!("{key} = {wrong}"));
        assert!(
            error.starts_with(&format!("{key} = ")) && error.contains(wanted),
            "{key} = {wrong}: {error}"
        );
        load(&format!("{key} = {right}"), &[], Flags::default())
            .unwrap_or_else(|error| panic!("{right}: {error}"));
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let error = fault("listen = '0.0.0.0:1'\n[ingest]\nmax_streams = 0\nbuffer = '1B'");
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn others_can_reach_the_server_only_with_tokens_or_when_asked_to() {
    let open = "listen = '0.0.0.0:7171'\n";
    let gateways = "[[auth.gateways]]\ngateway_id = 'barn-1'\ntoken = 'hay-and-more-hay-1'\nfarms = [1, 2]\n";
    assert!(fault(open).contains("auth.allow_anonymous = true"));
    let config = load(&format!("{open}{gateways}"), &[], Flags::default()).unwrap();
    assert_eq!(config.auth.gateways[0].token.expose_secret(), "hay-and-more-hay-1");
    assert_eq!(config.auth.gateways[0].farms, [1, 2]);
    load(open, &[], Flags { allow_anonymous: true, ..Flags::default() }).unwrap();
    load(open, &[("HERDSTREAM_AUTH__ALLOW_ANONYMOUS", "true")], Flags::default()).unwrap();
}

#[test]
fn gateways_are_checked() {
    let gateway = |id: &str, token: &str, farms: &str| {
        format!("[[auth.gateways]]\ngateway_id = '{id}'\ntoken = '{token}'\nfarms = {farms}\n")
    };
    let (token, other) = ("hay-and-more-hay-1", "hay-and-more-hay-2");
    for (file, wanted) in [
        (gateway("", token, "[]"), "auth.gateways[0].gateway_id = \"\": must be 1 to 64"),
        (gateway(&"x".repeat(65), token, "[]"), "must be 1 to 64"),
        (gateway("a", "short", "[]"), "auth.gateways[0].token = ***: must be 16 to 512"),
        (gateway("a", "with a space inside", "[]"), "auth.gateways[0].token = ***: must be"),
        (gateway("a", token, "[0]"), "auth.gateways[0].farms = 0: must be 1 to 2147483647"),
        (
            gateway("a", token, "[]") + &gateway("a", other, "[]"),
            "auth.gateways[1].gateway_id = \"a\": is there",
        ),
        (gateway("a", token, "[]") + &gateway("b", token, "[]"), "auth.gateways[1].token = ***: is another"),
        ("[[auth.gateways]]\ngateway_id = 'a'".to_owned(), "\"token\" is missing"),
    ] {
        let error = fault(&file);
        assert!(error.contains(wanted), "{file}: {error}");
    }
}

#[test]
fn a_misplaced_secret_is_not_repeated() {
    for file in [
        "[[auth.gateways]]\ngateway_id = 'a'\ntoken = 6174777512345678",
        "[[auth.gateways]]\ngateway_id = 'a'\ntoken = ['61747775-hay']",
        "[auth]\ngateways = '61747775-hay'",
        "[auth]\ngateways = ['61747775-hay']",
        "[auth]\nallow_anonymous = '61747775-hay'",
    ] {
        let error = fault(file);
        assert!(!error.contains("61747775"), "{error}");
        assert!(error.contains("auth"), "{error}");
    }
    let error = load("", &[("HERDSTREAM_AUTH__GATEWAYS", "61747775-hay")], Flags::default()).unwrap_err();
    assert!(!error.contains("61747775"), "{error}");
}

prop_compose! {
    fn any_config()(
        token in "[!-~]{16,80}",
        port in 1_u16..,
        sizes in prop::array::uniform4(8_u64 << 20..1 << 30),
        durations in prop::array::uniform3(60_000_u64..3_600_000),
        streams in 1_usize..1_000_000,
        opens in prop::option::of(1_u32..),
        dir in "[a-zäß\"'\\\\ /]{1,20}",
    ) -> (Config, String) {
        let mut config = Config { http_listen: None, ..Config::default() };
        config.listen.set_port(port);
        let [a, b, c, d] = sizes.map(ByteSize::b);
        config.store = StoreConfig { data_dir: PathBuf::from(dir), memtable: a, cache: b, journal: c.max(ByteSize::mib(64)), min_free: d.max(ByteSize::mib(16)) };
        config.ingest.buffer = ByteSize::gib(1);
        config.ingest.group_bytes = a;
        config.ingest.max_streams = streams;
        config.ingest.max_opens_per_second = opens;
        let [accepted, open, drain] = durations.map(Duration::from_millis);
        config.ingest.accepted_lateness = accepted;
        config.ingest.open_timeout = open;
        config.drain.deadline = drain;
        config.auth.gateways = vec![GatewayConfig { gateway_id: "barn-1".to_owned(), token: token.clone().into(), farms: vec![7] }];
        (config, token)
    }
}

const ANNOTATED: &str = include_str!("../../../docs/herdstream.toml");

#[test]
fn the_annotated_file_has_every_key_with_its_default() {
    let annotated = load(ANNOTATED, &[], Flags::default()).unwrap();
    assert_eq!(annotated.to_toml(), Config::default().to_toml());
    for line in Config::default().to_toml().lines().filter(|line| !line.starts_with("gateways")) {
        assert!(ANNOTATED.lines().any(|found| found == line), "{line} is missing");
    }
}

#[test]
fn what_the_annotated_file_has_in_comments_can_be_used() {
    let is_key = |line: &&str| {
        line.starts_with("[[") || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let text: Vec<&str> =
        ANNOTATED.lines().map(|line| line.strip_prefix("# ").filter(is_key).unwrap_or(line)).collect();
    let config = load(&text.join("\n"), &[], Flags::default()).unwrap();
    assert_eq!(config.ingest.max_opens_per_second, Some(1000));
    assert_eq!(config.ingest.max_writes_per_second, Some(1000));
    assert_eq!(
        (config.auth.gateways[0].gateway_id.as_str(), &*config.auth.gateways[0].farms),
        ("barn-7", &[1][..])
    );
}

proptest! {
    #[test]
    fn secrets_never_show_and_all_else_survives_printing((config, token) in any_config()) {
        config.validate().unwrap();
        let text = config.to_toml();
        prop_assert!(!text.contains(&token), "{}", text);
        let shown = format!("{config:?}");
        prop_assert!(!shown.contains(&token), "{}", shown);
        prop_assert!(text.contains("token = \"***\""), "{}", text);
        let again = load(&text.replace("***", "hay-and-more-hay-1"), &[], Flags::default()).unwrap();
        prop_assert_eq!(again.to_toml(), text);
    }
}
