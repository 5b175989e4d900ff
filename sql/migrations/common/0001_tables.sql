-- What every profile has. Chunked tables follow with 0002, which differs by profile.

-- One row: what this schema is.
CREATE TABLE iot.schema_info (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    profile         text    NOT NULL CHECK (profile IN ('postgres', 'timescale')),
    -- The newest migration that ran.
    version         integer NOT NULL,
    -- The oldest binary that may write here, by the newest migration it knows.
    compatible_from integer NOT NULL
);

-- The five texts that name a series; a reading carries the number.
CREATE TABLE iot.series (
    series_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    farm_id     integer NOT NULL CHECK (farm_id >= 1),
    device_uid  text COLLATE "C" NOT NULL CHECK (char_length(device_uid) BETWEEN 1 AND 64),
    device_type text COLLATE "C" NOT NULL CHECK (char_length(device_type) BETWEEN 1 AND 32),
    metric_name text COLLATE "C" NOT NULL CHECK (char_length(metric_name) BETWEEN 1 AND 64),
    metric_unit text COLLATE "C" NOT NULL DEFAULT '' CHECK (char_length(metric_unit) <= 16),
    first_seen  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (farm_id, device_uid, device_type, metric_name, metric_unit)
);
CREATE INDEX series_device ON iot.series (device_uid, metric_name);

-- The ledger: how far each producer's log is durable. Locked in the order of ids before its rows are written.
CREATE TABLE iot.producer (
    producer_id      uuid   PRIMARY KEY,
    gateway_id       text   NOT NULL DEFAULT '',
    instance_id      text   NOT NULL DEFAULT '',
    epoch            bigint NOT NULL DEFAULT 0,
    committed_offset bigint NOT NULL DEFAULT 0,
    stored           bigint NOT NULL DEFAULT 0,
    duplicate        bigint NOT NULL DEFAULT 0,
    quarantined      bigint NOT NULL DEFAULT 0,
    -- Whatever a client says, up to 2^64 - 1.
    skipped          numeric(20) NOT NULL DEFAULT 0,
    -- Of the last commit that changed the row: a server that lost its connection finds its commit by it.
    commit_number    bigint NOT NULL DEFAULT 0,
    updated          timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What was refused, with its reason, as it arrived. Kinds and codes: herdstream.v1.
CREATE TABLE iot.quarantine (
    producer_id   uuid     NOT NULL,
    batch_offset  bigint   NOT NULL,
    kind          smallint NOT NULL,
    batch_index   integer  NOT NULL,
    code          smallint NOT NULL,
    field         text     NOT NULL,
    message       text     NOT NULL,
    received      timestamptz NOT NULL,
    series        jsonb,
    content       jsonb,
    -- Anonymous writes share offset and index; a producer's are unique by the ledger.
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
CREATE INDEX quarantine_place ON iot.quarantine (producer_id, batch_offset, kind, batch_index);
CREATE INDEX quarantine_received ON iot.quarantine (received);

-- What was last heard of a device.
CREATE TABLE iot.device_status (
    farm_id         integer NOT NULL,
    device_uid      text COLLATE "C" NOT NULL,
    device_type     text    NOT NULL,
    last_seen       timestamptz NOT NULL,
    battery_level   smallint,
    battery_at      timestamptz,
    signal_strength smallint,
    signal_at       timestamptz,
    PRIMARY KEY (farm_id, device_uid)
) WITH (fillfactor = 50);

-- Readings by the minute of their time, for the last day; a writer adds to rows of its own, so that none waits.
CREATE TABLE iot.activity (
    minute   timestamptz NOT NULL,
    writer   bigint      NOT NULL,
    readings bigint      NOT NULL,
    PRIMARY KEY (minute, writer)
) WITH (fillfactor = 50);

-- Orders readings of equal time: commit number × 65536 + place within the commit.
CREATE SEQUENCE iot.commit_number;
