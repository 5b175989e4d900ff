-- INSERT INTO and COPY iot.sensor_data for writers that know the seed's table.
--
-- Rows gather in the inbox, are stored at the end of their statement, and are counted and heard of at the end of
-- their transaction: set by set in sorted order, so that two writers wait for each other and never deadlock.
-- Who commits has emptied the inbox; so what a transaction sees there is its own.

CREATE UNLOGGED TABLE iot.inbox (
    time            timestamptz             NOT NULL,
    device_uid      varchar(64) COLLATE "C" NOT NULL,
    device_type     varchar(32) COLLATE "C" NOT NULL,
    farm_id         integer                 NOT NULL,
    metric_name     varchar(64) COLLATE "C" NOT NULL,
    -- Squares of larger numbers overflow a bucket's deviation, and with it the whole refresh.
    metric_value    double precision        NOT NULL
                    CHECK (abs(metric_value) <= 1e140 OR metric_value IN ('NaN', 'Infinity', '-Infinity')),
    metric_unit     varchar(16) COLLATE "C",
    data_quality    varchar(16),
    is_interpolated boolean,
    animal_id       integer,
    zone_id         integer,
    session_id      varchar(64),
    battery_level   smallint,
    signal_strength smallint,
    metadata        jsonb,
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- The first row of each statement whose rows are stored and not yet counted.
CREATE UNLOGGED TABLE iot.inbox_statement (
    first_id bigint PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

ALTER VIEW iot.sensor_data ALTER COLUMN data_quality SET DEFAULT 'valid';
ALTER VIEW iot.sensor_data ALTER COLUMN is_interpolated SET DEFAULT false;
ALTER VIEW iot.sensor_data ALTER COLUMN metadata SET DEFAULT '{}'::jsonb;

-- Each row: into the inbox, under the seed's types and lengths. iot.inbox_first is the statement's first row.
CREATE FUNCTION iot.take_sensor_data() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_id bigint;
BEGIN
    INSERT INTO iot.inbox VALUES (NEW.*) RETURNING id INTO row_id;
    IF COALESCE(current_setting('iot.inbox_first', true), '') = '' THEN
        PERFORM set_config('iot.inbox_first', row_id::text, true);
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER take INSTEAD OF INSERT ON iot.sensor_data
FOR EACH ROW EXECUTE FUNCTION iot.take_sensor_data();

-- Each statement: new qualities, new series, days, readings.
CREATE FUNCTION iot.store_sensor_data() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first  bigint := NULLIF(current_setting('iot.inbox_first', true), '')::bigint;
    taken  bigint;
    stored bigint;
BEGIN
    IF first IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('iot.inbox_first', '', true);

    INSERT INTO iot.quality (name)
    SELECT DISTINCT data_quality FROM iot.inbox
    WHERE id >= first AND data_quality IS NOT NULL AND data_quality NOT IN (SELECT name FROM iot.quality);

    -- Known series are left out beforehand: a conflict would use up a number.
    INSERT INTO iot.series (farm_id, device_uid, device_type, metric_name, metric_unit)
    SELECT n.*
    FROM (SELECT DISTINCT farm_id, device_uid, device_type, metric_name, COALESCE(metric_unit, '') AS metric_unit
          FROM iot.inbox WHERE id >= first) AS n
    WHERE NOT EXISTS (
        SELECT FROM iot.series AS s
        WHERE (s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit)
            = (n.farm_id, n.device_uid, n.device_type, n.metric_name, n.metric_unit))
    ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT DO NOTHING;

    PERFORM iot.ensure_reading_partition(day)
    FROM (SELECT DISTINCT (time AT TIME ZONE 'UTC')::date AS day FROM iot.inbox WHERE id >= first ORDER BY 1) AS d;

    INSERT INTO iot.reading (time, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength,
                             is_interpolated, session_id, metadata)
    SELECT i.time, i.metric_value, s.series_id, i.animal_id, i.zone_id, COALESCE(q.quality, 0), i.battery_level,
           i.signal_strength, COALESCE(i.is_interpolated, false), i.session_id, NULLIF(i.metadata, '{}'::jsonb)
    FROM iot.inbox AS i
    JOIN iot.series AS s
      ON (s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit)
       = (i.farm_id, i.device_uid, i.device_type, i.metric_name, COALESCE(i.metric_unit, ''))
    LEFT JOIN (SELECT name, min(quality) AS quality FROM iot.quality GROUP BY name) AS q ON q.name = i.data_quality
    WHERE i.id >= first
    ORDER BY s.series_id, i.time, i.id;
    GET DIAGNOSTICS stored = ROW_COUNT;

    SELECT count(*) INTO taken FROM iot.inbox WHERE id >= first;
    IF stored <> taken THEN
        -- Under REPEATABLE READ a series that another transaction has just made is there and cannot be seen.
        RAISE EXCEPTION 'another transaction made a series that this one cannot see yet: repeat the transaction'
            USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO iot.inbox_statement VALUES (first);
    RETURN NULL;
END;
$$;
CREATE TRIGGER store AFTER INSERT ON iot.sensor_data
FOR EACH STATEMENT EXECUTE FUNCTION iot.store_sensor_data();

-- The end of the transaction, once for all its statements: devices heard of, readings counted under writer 0.
CREATE FUNCTION iot.hear_sensor_data() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM iot.inbox_statement WHERE first_id >= NEW.first_id;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    WITH gone AS (
        DELETE FROM iot.inbox WHERE id >= NEW.first_id RETURNING *
    ), heard AS (
        INSERT INTO iot.device_status AS s (farm_id, device_uid, device_type, last_seen, battery_level, battery_at,
                                            signal_strength, signal_at)
        SELECT farm_id, device_uid,
               (array_agg(device_type ORDER BY time DESC, id DESC))[1],
               max(time),
               (array_agg(battery_level ORDER BY time DESC, id DESC) FILTER (WHERE battery_level IS NOT NULL))[1],
               max(time) FILTER (WHERE battery_level IS NOT NULL),
               (array_agg(signal_strength ORDER BY time DESC, id DESC) FILTER (WHERE signal_strength IS NOT NULL))[1],
               max(time) FILTER (WHERE signal_strength IS NOT NULL)
        FROM gone
        GROUP BY farm_id, device_uid
        ORDER BY farm_id, device_uid
        ON CONFLICT (farm_id, device_uid) DO UPDATE SET
            device_type     = CASE WHEN s.last_seen > EXCLUDED.last_seen THEN s.device_type
                                   ELSE EXCLUDED.device_type END,
            last_seen       = greatest(s.last_seen, EXCLUDED.last_seen),
            battery_level   = CASE WHEN s.battery_at > EXCLUDED.battery_at THEN s.battery_level
                                   ELSE COALESCE(EXCLUDED.battery_level, s.battery_level) END,
            battery_at      = greatest(s.battery_at, EXCLUDED.battery_at),
            signal_strength = CASE WHEN s.signal_at > EXCLUDED.signal_at THEN s.signal_strength
                                   ELSE COALESCE(EXCLUDED.signal_strength, s.signal_strength) END,
            signal_at       = greatest(s.signal_at, EXCLUDED.signal_at)
    )
    INSERT INTO iot.activity AS a (minute, writer, readings)
    SELECT date_trunc('minute', time, 'UTC'), 0, count(*)
    FROM gone
    WHERE time > now() - INTERVAL '25 hours'
    GROUP BY 1
    ORDER BY 1
    ON CONFLICT (minute, writer) DO UPDATE SET readings = a.readings + EXCLUDED.readings;
    RETURN NULL;
END;
$$;
CREATE CONSTRAINT TRIGGER hear AFTER INSERT ON iot.inbox_statement DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION iot.hear_sensor_data();
