-- The seed's tables (its section 7.1) as plain tables beside ours, filled by the same statements: what every answer
-- is compared with. Nothing here uses the tables, functions or views under test.
CREATE SCHEMA seed;

CREATE TABLE seed.sensor_data (
    time TIMESTAMPTZ NOT NULL,
    device_uid VARCHAR(64) NOT NULL,
    device_type VARCHAR(32) NOT NULL,
    farm_id INTEGER NOT NULL,
    metric_name VARCHAR(64) NOT NULL,
    metric_value DOUBLE PRECISION NOT NULL,
    metric_unit VARCHAR(16),
    data_quality VARCHAR(16) DEFAULT 'valid',
    is_interpolated BOOLEAN DEFAULT FALSE,
    animal_id INTEGER,
    zone_id INTEGER,
    session_id VARCHAR(64),
    battery_level SMALLINT,
    signal_strength SMALLINT,
    metadata JSONB DEFAULT '{}'::jsonb
);

CREATE TABLE seed.milk_production_realtime (
    time TIMESTAMPTZ NOT NULL,
    milk_meter_id INTEGER NOT NULL,
    animal_id INTEGER NOT NULL,
    farm_id INTEGER NOT NULL,
    session_id VARCHAR(64) NOT NULL,
    yield_kg DOUBLE PRECISION NOT NULL,
    duration_seconds INTEGER,
    flow_rate_kg_min DOUBLE PRECISION,
    conductivity_ms DOUBLE PRECISION,
    temperature_c DOUBLE PRECISION,
    blood_detected BOOLEAN DEFAULT FALSE,
    fat_percent DOUBLE PRECISION,
    protein_percent DOUBLE PRECISION,
    lactose_percent DOUBLE PRECISION,
    somatic_cell_count INTEGER,
    mastitis_risk_score DOUBLE PRECISION,
    session_start TIMESTAMPTZ,
    session_end TIMESTAMPTZ,
    milking_type VARCHAR(16),
    meter_status VARCHAR(16)
);

-- The SELECTs of the seed's views and of its service, word for word; a service's parameters are named $1 as there.
CREATE TABLE seed.statement (name text PRIMARY KEY, text text NOT NULL);
INSERT INTO seed.statement VALUES
('15min', $$
SELECT
    time_bucket('15 minutes', time) AS bucket,
    device_uid,
    device_type,
    farm_id,
    metric_name,
    AVG(metric_value) AS avg_value,
    MIN(metric_value) AS min_value,
    MAX(metric_value) AS max_value,
    STDDEV(metric_value) AS stddev_value,
    COUNT(*) AS sample_count
FROM iot.sensor_data
GROUP BY bucket, device_uid, device_type, farm_id, metric_name
$$),
('hourly', $$
SELECT
    time_bucket('1 hour', time) AS bucket,
    device_uid,
    device_type,
    farm_id,
    metric_name,
    AVG(metric_value) AS avg_value,
    MIN(metric_value) AS min_value,
    MAX(metric_value) AS max_value,
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY metric_value) AS median_value,
    PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY metric_value) AS p95_value,
    STDDEV(metric_value) AS stddev_value,
    COUNT(*) AS sample_count,
    SUM(CASE WHEN data_quality = 'valid' THEN 1 ELSE 0 END) AS valid_count
FROM iot.sensor_data
GROUP BY bucket, device_uid, device_type, farm_id, metric_name
$$),
('daily', $$
SELECT
    time_bucket('1 day', time) AS bucket,
    device_uid,
    device_type,
    farm_id,
    metric_name,
    AVG(metric_value) AS avg_value,
    MIN(metric_value) AS min_value,
    MAX(metric_value) AS max_value,
    PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY metric_value) AS median_value,
    COUNT(*) AS sample_count,
    SUM(CASE WHEN data_quality != 'valid' THEN 1 ELSE 0 END) AS error_count
FROM iot.sensor_data
GROUP BY bucket, device_uid, device_type, farm_id, metric_name
$$),
('milk_daily', $$
SELECT
    time_bucket('1 day', time) AS bucket,
    animal_id,
    farm_id,
    SUM(yield_kg) AS total_yield_kg,
    AVG(yield_kg) AS avg_yield_per_session,
    COUNT(*) AS milking_count,
    AVG(conductivity_ms) AS avg_conductivity,
    AVG(somatic_cell_count) AS avg_scc,
    MAX(mastitis_risk_score) AS max_mastitis_risk,
    AVG(fat_percent) AS avg_fat,
    AVG(protein_percent) AS avg_protein
FROM iot.milk_production_realtime
GROUP BY bucket, animal_id, farm_id
$$),
('device_status', $$
SELECT DISTINCT ON (device_uid)
    device_uid,
    device_type,
    farm_id,
    time AS last_seen,
    battery_level,
    signal_strength,
    CASE
        WHEN time > NOW() - INTERVAL '5 minutes' THEN 'online'
        WHEN time > NOW() - INTERVAL '1 hour' THEN 'degraded'
        ELSE 'offline'
    END AS status
FROM iot.sensor_data
ORDER BY device_uid, time DESC
$$),
('farm_daily', $$
SELECT
    bucket AS date,
    farm_id,
    device_type,
    metric_name,
    avg_value,
    min_value,
    max_value,
    sample_count
FROM iot.sensor_data_daily
WHERE bucket >= NOW() - INTERVAL '30 days'
$$),
('latest', $$
            SELECT time, device_type, metric_name, metric_value, metric_unit
            FROM iot.sensor_data
            WHERE device_uid = $1
            ORDER BY time DESC
            LIMIT 1
$$),
('range_raw', $$
            SELECT time as time, metric_value as value
            FROM iot.sensor_data
            WHERE device_uid = $1
              AND metric_name = $2
              AND time >= $3
              AND time <= $4
            ORDER BY time
$$),
('range_15min', $$
            SELECT bucket as time, avg_value as value
            FROM iot.sensor_data_15min
            WHERE device_uid = $1
              AND metric_name = $2
              AND bucket >= $3
              AND bucket <= $4
            ORDER BY bucket
$$),
('range_hourly', $$
            SELECT bucket as time, avg_value as value
            FROM iot.sensor_data_hourly
            WHERE device_uid = $1
              AND metric_name = $2
              AND bucket >= $3
              AND bucket <= $4
            ORDER BY bucket
$$),
('range_daily', $$
            SELECT bucket as time, avg_value as value
            FROM iot.sensor_data_daily
            WHERE device_uid = $1
              AND metric_name = $2
              AND bucket >= $3
              AND bucket <= $4
            ORDER BY bucket
$$),
('stats', $$
            SELECT
                (SELECT COUNT(*) FROM iot.sensor_data
                 WHERE time > NOW() - INTERVAL '1 hour') as readings_last_hour,
                (SELECT COUNT(*) FROM iot.sensor_data
                 WHERE time > NOW() - INTERVAL '24 hours') as readings_last_24h,
                (SELECT COUNT(DISTINCT device_uid) FROM iot.sensor_data
                 WHERE time > NOW() - INTERVAL '5 minutes') as active_devices
$$);

-- A statement as it reads on the plain tables, its buckets by PostgreSQL's own function.
CREATE FUNCTION seed.plain(statement text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(replace(statement, 'iot.', 'seed.'), 'time_bucket\((''[^'']*''), time\)',
                          'date_bin(\1, time, ''1970-01-01 00:00:00+00'')')
$$;
DO $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['15min', 'hourly', 'daily'] LOOP
        EXECUTE format('CREATE VIEW seed.sensor_data_%s AS %s', kind,
                       (SELECT seed.plain(text) FROM seed.statement WHERE name = kind));
    END LOOP;
    EXECUTE 'CREATE VIEW seed.milk_production_daily AS '
            || (SELECT seed.plain(text) FROM seed.statement WHERE name = 'milk_daily');
END;
$$;

-- Both answers hold the same rows, numbers to nine places, and there are some.
CREATE FUNCTION seed.same(what text, columns text, actual text, expected text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    rounded text := regexp_replace(columns, '~(\w+)', 'round(\1::numeric, 9) AS \1', 'g');
    odd     jsonb;
    n       bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM (%s) AS e', expected) INTO n;
    IF n = 0 THEN
        RAISE EXCEPTION '%: nothing to compare', what;
    END IF;
    FOR odd IN EXECUTE format(
        'WITH a AS MATERIALIZED (SELECT %1$s FROM (%2$s) AS a), e AS MATERIALIZED (SELECT %1$s FROM (%3$s) AS e)
         (SELECT jsonb_build_object(''unexpected'', x) FROM (TABLE a EXCEPT ALL TABLE e) AS x)
         UNION ALL
         (SELECT jsonb_build_object(''missing'', x) FROM (TABLE e EXCEPT ALL TABLE a) AS x)
         LIMIT 4', rounded, actual, expected)
    LOOP
        RAISE WARNING '%: %', what, odd;
    END LOOP;
    IF odd IS NOT NULL THEN
        RAISE EXCEPTION '%: the answers differ', what;
    END IF;
END;
$$;

-- Every view and every SELECT of the seed against the plain tables.
CREATE FUNCTION seed.check_answers() RETURNS void LANGUAGE plpgsql SET search_path = iot, public AS $$
DECLARE
    level   record;
    query   text;
    device  text;
    kind    text;
BEGIN
    FOR level IN
        SELECT * FROM (VALUES
            ('15min', 'sensor_data_15min', 'bucket, device_uid::text, device_type::text, farm_id, metric_name::text,
              ~avg_value, min_value, max_value, ~stddev_value, sample_count'),
            ('hourly', 'sensor_data_hourly', 'bucket, device_uid::text, device_type::text, farm_id, metric_name::text,
              ~avg_value, min_value, max_value, ~median_value, ~p95_value, ~stddev_value, sample_count, valid_count'),
            ('daily', 'sensor_data_daily', 'bucket, device_uid::text, device_type::text, farm_id, metric_name::text,
              ~avg_value, min_value, max_value, ~median_value, sample_count, error_count'),
            ('milk_daily', 'milk_production_daily', 'bucket, animal_id, farm_id, ~total_yield_kg,
              ~avg_yield_per_session, milking_count, ~avg_conductivity, ~avg_scc, max_mastitis_risk, ~avg_fat,
              ~avg_protein')) AS v (name, view, columns)
    LOOP
        SELECT text INTO query FROM seed.statement WHERE name = level.name;
        PERFORM seed.same('the view ' || level.view, level.columns, 'TABLE iot.' || level.view, seed.plain(query));
        PERFORM seed.same('the SELECT of ' || level.view, level.columns, query, seed.plain(query));
    END LOOP;

    SELECT text INTO query FROM seed.statement WHERE name = 'farm_daily';
    PERFORM seed.same('the SELECT of farm_daily_summary', 'date, farm_id, device_type::text, metric_name::text,
                      ~avg_value, min_value, max_value, sample_count', query, seed.plain(query));
    PERFORM seed.same('the view farm_daily_summary', 'date, farm_id, device_type::text, metric_name::text, ~avg_value,
                      min_value, max_value, sample_count', 'TABLE iot.farm_daily_summary', $q$
        SELECT date_trunc('day', time, 'UTC') AS date, farm_id, device_type, metric_name, avg(metric_value) AS avg_value,
               min(metric_value) AS min_value, max(metric_value) AS max_value, count(*) AS sample_count
        FROM seed.sensor_data
        WHERE date_trunc('day', time, 'UTC') >= now() - INTERVAL '30 days'
        GROUP BY 1, 2, 3, 4 $q$);

    PERFORM seed.same('the view sensor_data', 'time, device_uid::text, device_type::text, farm_id, metric_name::text,
                      metric_value, metric_unit::text, data_quality::text, is_interpolated, animal_id, zone_id,
                      session_id::text, battery_level, signal_strength, metadata',
                      'TABLE iot.sensor_data', 'TABLE seed.sensor_data');
    PERFORM seed.same('the view animal_metrics', 'time, animal_id, farm_id, device_uid::text, metric_name::text,
                      metric_value', 'TABLE iot.animal_metrics',
                      'SELECT * FROM seed.sensor_data WHERE animal_id IS NOT NULL');
    PERFORM seed.same('milkings', 'time, milk_meter_id, animal_id, farm_id, session_id, yield_kg, duration_seconds,
                      flow_rate_kg_min, conductivity_ms, temperature_c, blood_detected, fat_percent, protein_percent,
                      lactose_percent, somatic_cell_count, mastitis_risk_score, session_start, session_end,
                      milking_type, meter_status',
                      'TABLE iot.milk_production_realtime', 'TABLE seed.milk_production_realtime');

    -- The view keeps the last battery and signal that were sent, the SELECT those of the last reading.
    SELECT text INTO query FROM seed.statement WHERE name = 'device_status';
    PERFORM seed.same('the SELECT of device_current_status', 'device_uid::text, device_type::text, farm_id, last_seen,
                      battery_level, signal_strength, status', query, seed.plain(query));
    PERFORM seed.same('the view device_current_status', 'device_uid::text, device_type::text, farm_id, last_seen,
                      battery_level, signal_strength, status', 'TABLE iot.device_current_status', format($q$
        SELECT last.device_uid, last.device_type, last.farm_id, last.last_seen, last.status,
               (SELECT battery_level FROM seed.sensor_data AS b WHERE b.device_uid = last.device_uid
                AND battery_level IS NOT NULL ORDER BY time DESC LIMIT 1) AS battery_level,
               (SELECT signal_strength FROM seed.sensor_data AS b WHERE b.device_uid = last.device_uid
                AND signal_strength IS NOT NULL ORDER BY time DESC LIMIT 1) AS signal_strength
        FROM (%s) AS last $q$, seed.plain(query)));

    -- The service's queries, for every device.
    SELECT text INTO query FROM seed.statement WHERE name = 'stats';
    PERFORM seed.same('stats', 'readings_last_hour, readings_last_24h, active_devices', query, seed.plain(query));
    FOR device IN SELECT DISTINCT device_uid FROM seed.sensor_data LOOP
        SELECT replace(text, '$1', quote_literal(device)) INTO query FROM seed.statement WHERE name = 'latest';
        PERFORM seed.same('latest', 'time, device_type::text, metric_name::text, metric_value, metric_unit::text',
                          query, seed.plain(query));
        FOREACH kind IN ARRAY ARRAY['raw', '15min', 'hourly', 'daily'] LOOP
            SELECT replace(replace(replace(replace(text, '$1', quote_literal(device)), '$2', '''temperature'''),
                                   '$3', '(now() - interval ''50 days'')'), '$4', 'now()')
            INTO query FROM seed.statement WHERE name = 'range_' || kind;
            PERFORM seed.same('range ' || kind, 'time, ~value', query, seed.plain(query));
        END LOOP;
    END LOOP;
END;
$$;
