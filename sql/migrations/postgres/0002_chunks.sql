-- Readings in native partitions of one day (UTC), made before the first commit into a day.
CREATE TABLE iot.reading (
    time            timestamptz      NOT NULL,
    stamp           bigint           NOT NULL DEFAULT nextval('iot.commit_number') << 16,
    value           double precision NOT NULL,
    series_id       integer          NOT NULL,
    animal_id       integer,
    zone_id         integer,
    quality         smallint         NOT NULL DEFAULT 1,
    battery_level   smallint,
    signal_strength smallint,
    is_interpolated boolean          NOT NULL DEFAULT false,
    session_id      text,
    metadata        jsonb
) PARTITION BY RANGE (time);
CREATE INDEX reading_series_time ON iot.reading (series_id, time DESC);

CREATE TABLE iot.milk_production_realtime (
    time                timestamptz      NOT NULL,
    milk_meter_id       integer          NOT NULL,
    animal_id           integer          NOT NULL,
    farm_id             integer          NOT NULL,
    session_id          varchar(64)      NOT NULL,
    yield_kg            double precision NOT NULL,
    duration_seconds    integer,
    flow_rate_kg_min    double precision,
    conductivity_ms     double precision,
    temperature_c       double precision,
    blood_detected      boolean DEFAULT false,
    fat_percent         double precision,
    protein_percent     double precision,
    lactose_percent     double precision,
    somatic_cell_count  integer,
    mastitis_risk_score double precision,
    session_start       timestamptz,
    session_end         timestamptz,
    milking_type        varchar(16),
    meter_status        varchar(16),
    stamp               bigint           NOT NULL DEFAULT nextval('iot.commit_number') << 16
);
CREATE INDEX milk_animal_time ON iot.milk_production_realtime (animal_id, time DESC);
CREATE INDEX milk_farm_time ON iot.milk_production_realtime (farm_id, time DESC);
CREATE INDEX milk_session ON iot.milk_production_realtime (session_id);
