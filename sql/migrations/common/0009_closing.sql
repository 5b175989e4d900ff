-- Closing buckets and dropping days: one mechanism on every profile.
--
-- Time before `closed_before` is closed: a commit that writes into it marks that hour of its series dirty. Buckets that
-- end by `stored_before` are kept as rollups. Kept and clean buckets are answered from rollups, all others from readings.
--
-- Where much arrives, each commit adds what it writes to sums of open quarters of an hour, so that a question need not
-- read them: those of quarters from `summed_from` on are complete, whoever writes.
--
-- Locks, all of them advisory, by hashtext('herdstream') and a number: 2, shared by every transaction that writes
-- readings or milkings, alone for who moves `closed_before` or `summed_from` or drops a day; 3, for who refreshes or
-- drops.

-- One row: how far it is.
CREATE TABLE iot.watermark (
    only_row                boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    closed_before           timestamptz NOT NULL DEFAULT '-infinity',
    stored_before           timestamptz NOT NULL DEFAULT '-infinity',
    summed_from             timestamptz NOT NULL DEFAULT 'infinity',
    -- End of the newest day that was dropped, and before which rollups were.
    reading_kept_from       timestamptz NOT NULL DEFAULT '-infinity',
    milking_kept_from       timestamptz NOT NULL DEFAULT '-infinity',
    rollup_15min_kept_from  timestamptz NOT NULL DEFAULT '-infinity',
    rollup_hourly_kept_from timestamptz NOT NULL DEFAULT '-infinity',
    rollup_daily_kept_from  timestamptz NOT NULL DEFAULT '-infinity',
    -- Marks up to this number were there when a refresh looked last: it may take them away, and no commit counts on them.
    looked_mark             bigint      NOT NULL DEFAULT 0,
    CHECK (stored_before <= closed_before),
    CHECK (reading_kept_from <= stored_before)
) WITH (fillfactor = 50);
INSERT INTO iot.watermark DEFAULT VALUES;

-- Hours of series into which something was written after they were closed. Rows are added only, and an hour may have
-- several: no commit waits for another one. An hour that was marked since a refresh looked last needs no other mark.
CREATE TABLE iot.rollup_dirty (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series_id integer     NOT NULL,
    hour      timestamptz NOT NULL,
    day       timestamptz NOT NULL GENERATED ALWAYS AS (date_bin('1 day', hour, '2000-01-03 00:00:00+00')) STORED
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 500);
CREATE INDEX rollup_dirty_series_day_hour ON iot.rollup_dirty (series_id, day, hour);

-- Sums of open quarters of an hour. What ends by `stored_before` counts no more.
CREATE TABLE iot.rollup_open (
    series_id    integer          NOT NULL,
    bucket       timestamptz      NOT NULL,
    -- 0: servers, one after the other; else the backend of an old writer, whose transaction may take its time: nobody
    -- waits for it.
    writer       integer          NOT NULL DEFAULT 0,
    sample_count bigint           NOT NULL,
    sum_value    double precision NOT NULL,
    min_value    double precision NOT NULL,
    max_value    double precision NOT NULL,
    -- Sum of the squared distances from the mean: unlike a deviation it can be added to.
    squares      double precision NOT NULL,
    valid_count  bigint           NOT NULL,
    error_count  bigint           NOT NULL,
    PRIMARY KEY (series_id, bucket, writer)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

-- When a day of readings was last written, at the latest: when it was first kept, or hours of it were mended.
CREATE TABLE iot.written_day (
    day     timestamptz PRIMARY KEY,
    written timestamptz NOT NULL
);

-- Days that are gone. Their rollups stand, and nothing is written into them again.
CREATE TABLE iot.dropped_day (
    source text        NOT NULL CHECK (source IN ('reading', 'milking')),
    day    timestamptz NOT NULL,
    PRIMARY KEY (source, day)
);

-- Which series have readings of an animal (tag 1) or a zone (tag 2) on a day. An index by animal on the readings would
-- cost every reading; this costs the first one of a day.
CREATE TABLE iot.tag_day (
    tag       smallint    NOT NULL,
    tag_id    integer     NOT NULL,
    day       timestamptz NOT NULL,
    series_id integer     NOT NULL,
    PRIMARY KEY (tag, tag_id, day, series_id)
);
INSERT INTO iot.tag_day (tag, tag_id, day, series_id)
SELECT DISTINCT t.tag, t.id, date_bin('1 day', r.time, '2000-01-03 00:00:00+00'), r.series_id
FROM iot.reading AS r
CROSS JOIN LATERAL (VALUES (1::smallint, r.animal_id), (2::smallint, r.zone_id)) AS t (tag, id)
WHERE t.id IS NOT NULL;

-- A binary that knows nothing of marks finds no number for its commits: it takes nothing until it is replaced, rather
-- than write into closed time unseen.
ALTER SEQUENCE iot.commit_number RENAME TO commit_order;

-- Where the watermark stands, and goes on standing until this transaction ends.
CREATE FUNCTION iot.hold_watermark(OUT closed_before timestamptz, OUT reading_kept_from timestamptz,
                                   OUT milking_kept_from timestamptz, OUT looked_mark bigint,
                                   OUT stored_before timestamptz, OUT summed_from timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    mark iot.watermark;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('herdstream'), 2);
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        SELECT * INTO mark FROM iot.watermark;
    ELSE
        -- What this transaction sees may be older than the lock: then this fails, with 40001.
        SELECT * INTO mark FROM iot.watermark FOR SHARE;
    END IF;
    closed_before := mark.closed_before;
    reading_kept_from := mark.reading_kept_from;
    milking_kept_from := mark.milking_kept_from;
    looked_mark := mark.looked_mark;
    stored_before := mark.stored_before;
    summed_from := mark.summed_from;
END;
$$;

-- Begins a commit: its number, and what is late or too late for it.
CREATE FUNCTION iot.begin_commit(OUT commit_number bigint, OUT closed_before timestamptz,
                                 OUT reading_kept_from timestamptz, OUT milking_kept_from timestamptz,
                                 OUT looked_mark bigint, OUT stored_before timestamptz,
                                 OUT summed_from timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT w.closed_before, w.reading_kept_from, w.milking_kept_from, w.looked_mark, w.stored_before, w.summed_from
    INTO begin_commit.closed_before, begin_commit.reading_kept_from, begin_commit.milking_kept_from,
         begin_commit.looked_mark, begin_commit.stored_before, begin_commit.summed_from
    FROM iot.hold_watermark() AS w;
    commit_number := nextval('iot.commit_order');
END;
$$;

-- Closes what lies before `until`, and looks at the marks that are there: those are mended next; answers the watermark.
-- Waits for the commits under way, and those that follow wait for it: so it gives up before a deadlock would be looked
-- for (1 s), having changed nothing, and may be repeated.
CREATE FUNCTION iot.close_before(until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SET lock_timeout = '800ms' AS $$
DECLARE
    closed timestamptz;
BEGIN
    until := date_bin('15 minutes', until, '2000-01-03 00:00:00+00');
    SELECT closed_before INTO closed FROM iot.watermark;
    IF closed < until OR EXISTS (SELECT FROM iot.rollup_dirty WHERE id > (SELECT looked_mark FROM iot.watermark)) THEN
        PERFORM pg_advisory_xact_lock(hashtext('herdstream'), 2);
        UPDATE iot.watermark
        SET closed_before = greatest(closed_before, until),
            looked_mark = greatest(looked_mark, (SELECT max(id) FROM iot.rollup_dirty))
        RETURNING closed_before INTO closed;
    END IF;
    RETURN closed;
END;
$$;

-- Notes that everything before `until` is kept. What was written before it was closed left no mark: an import that came
-- while nothing was kept is as new as this.
CREATE FUNCTION iot.note_stored(until timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    until := least(until, (SELECT closed_before FROM iot.watermark));
    INSERT INTO iot.written_day AS w (day, written)
    SELECT d.day, now()
    FROM iot.next_stretch() AS s
    CROSS JOIN generate_series(date_bin('1 day', s.since, '2000-01-03 00:00:00+00'),
                               note_stored.until - INTERVAL '1 microsecond', INTERVAL '24 hours') AS d (day)
    WHERE s.since < note_stored.until
    ON CONFLICT (day) DO UPDATE SET written = greatest(w.written, EXCLUDED.written);
    UPDATE iot.watermark SET stored_before = greatest(stored_before, note_stored.until);
    -- In the order of those who add.
    DELETE FROM iot.rollup_open AS o
    USING (SELECT series_id, bucket, writer FROM iot.rollup_open WHERE bucket < note_stored.until
           ORDER BY series_id, bucket, writer FOR UPDATE) AS old
    WHERE (o.series_id, o.bucket, o.writer) = (old.series_id, old.bucket, old.writer);
END;
$$;

-- Adds to the sums of open quarters, each of which has one row at most here.
CREATE FUNCTION iot.add_open(by_writer integer, series integer[], buckets timestamptz[], counts bigint[],
                             sums double precision[], minima double precision[], maxima double precision[],
                             squared double precision[], valid bigint[], errors bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO iot.rollup_open AS o
           (series_id, bucket, writer, sample_count, sum_value, min_value, max_value, squares, valid_count, error_count)
    SELECT u.series_id, u.bucket, by_writer, u.n, u.s, u.least, u.most, u.squares, u.valid, u.errors
    FROM unnest(series, buckets, counts, sums, minima, maxima, squared, valid, errors)
         AS u (series_id, bucket, n, s, least, most, squares, valid, errors)
    ORDER BY 1, 2
    ON CONFLICT (series_id, bucket, writer) DO UPDATE SET
        sample_count = o.sample_count + EXCLUDED.sample_count,
        sum_value = o.sum_value + EXCLUDED.sum_value,
        min_value = least(o.min_value, EXCLUDED.min_value),
        max_value = greatest(o.max_value, EXCLUDED.max_value),
        -- As the database merges its own variances, from counts, sums and squares: in SQL, tiny values would be refused.
        squares = (float8_combine(ARRAY[o.sample_count, o.sum_value, o.squares],
                                  ARRAY[EXCLUDED.sample_count, EXCLUDED.sum_value, EXCLUDED.squares]))[3],
        valid_count = o.valid_count + EXCLUDED.valid_count,
        error_count = o.error_count + EXCLUDED.error_count;
END;
$$;

-- Has quarters from `since` on summed up by whoever writes, from the next commit on; answers whether they are: not where
-- they are kept already. What is there of them is summed up now, while commits wait; where that is much, the quarter that
-- begins at `since` is left out. Gives up waiting for a lock soon, as those who commit wait, too.
CREATE FUNCTION iot.sum_from(since timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    much CONSTANT integer := 500000;
    mark iot.watermark;
BEGIN
    since := date_bin('15 minutes', since, '2000-01-03 00:00:00+00');
    SELECT * INTO mark FROM iot.watermark;
    IF mark.summed_from > since
       AND (SELECT count(*)
            FROM (SELECT FROM iot.series AS s
                  CROSS JOIN LATERAL (SELECT FROM iot.reading
                                      WHERE series_id = s.series_id AND time >= since AND time < mark.summed_from) AS r
                  LIMIT much + 1) AS r) > much THEN
        since := since + INTERVAL '15 minutes';
    END IF;
    IF mark.summed_from <= since THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('herdstream'), 2);
    SELECT * INTO mark FROM iot.watermark FOR UPDATE;
    IF mark.summed_from <= since OR since < mark.stored_before THEN
        RETURN mark.summed_from <= since;
    END IF;
    UPDATE iot.watermark SET summed_from = since;
    INSERT INTO iot.rollup_open
           (series_id, bucket, sample_count, sum_value, min_value, max_value, squares, valid_count, error_count)
    SELECT s.series_id, b.*
    FROM iot.series AS s
    CROSS JOIN LATERAL (
        SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00'), count(*), sum(value), min(value), max(value),
               regr_sxx(value, value), count(*) FILTER (WHERE quality = 1),
               count(*) FILTER (WHERE quality NOT IN (0, 1))
        FROM iot.reading
        WHERE series_id = s.series_id AND time >= since AND time < mark.summed_from
        GROUP BY 1
    ) AS b;
    RETURN true;
END;
$$;

-- Quarters of an hour from `since` to `until`, times at which quarters begin and nothing is kept before: in parts that
-- are to be merged. `summed` is the watermark's summed_from, which the planner then knows: this becomes a part of the
-- statement that asks.
CREATE FUNCTION iot.open_quarters(series integer[], since timestamptz, until timestamptz, summed timestamptz)
RETURNS TABLE (series_id integer, bucket timestamptz, sample_count bigint, sum_value double precision,
               min_value double precision, max_value double precision, stddev_value double precision,
               valid_count bigint, error_count bigint)
LANGUAGE sql STABLE AS $$
    SELECT o.series_id, o.bucket, o.sample_count, o.sum_value, o.min_value, o.max_value,
           -- Tiny quotients would be refused.
           CASE WHEN o.sample_count > 1 AND o.squares > 1e-280 THEN sqrt(o.squares / (o.sample_count - 1)) ELSE 0 END,
           o.valid_count, o.error_count
    FROM iot.rollup_open AS o
    WHERE o.series_id = ANY (series) AND o.bucket >= greatest(since, summed) AND o.bucket < until
    UNION ALL
    SELECT r.series_id, date_bin('15 minutes', r.time, '2000-01-03 00:00:00+00'), count(*), sum(r.value), min(r.value),
           max(r.value), stddev(r.value), count(*) FILTER (WHERE r.quality = 1),
           count(*) FILTER (WHERE r.quality NOT IN (0, 1))
    FROM iot.reading AS r
    WHERE r.series_id = ANY (series) AND r.time >= since AND r.time < least(until, summed)
    GROUP BY 1, 2
$$;

-- The readings of a statement of an old writer: new qualities, new series, days, readings, and what they make dirty.
CREATE OR REPLACE FUNCTION iot.store_sensor_data() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first   bigint := NULLIF(current_setting('iot.inbox_first', true), '')::bigint;
    taken   bigint;
    stored  bigint;
    mark    record;
    dropped timestamptz;
BEGIN
    IF first IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('iot.inbox_first', '', true);
    SELECT * INTO mark FROM iot.hold_watermark();

    SELECT min(d.day) INTO dropped
    FROM iot.dropped_day AS d
    WHERE d.source = 'reading'
      AND d.day IN (SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') FROM iot.inbox
                    WHERE id >= first AND time < mark.reading_kept_from);
    IF dropped IS NOT NULL THEN
        RAISE EXCEPTION 'a reading came too late: its day % was dropped by retention, and its aggregates stand',
                        to_char(dropped AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            USING ERRCODE = 'check_violation', TABLE = 'sensor_data', SCHEMA = 'iot';
    END IF;

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

    INSERT INTO iot.rollup_dirty (series_id, hour)
    SELECT DISTINCT s.series_id, date_bin('1 hour', i.time, '2000-01-03 00:00:00+00')
    FROM iot.inbox AS i
    JOIN iot.series AS s
      ON (s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit)
       = (i.farm_id, i.device_uid, i.device_type, i.metric_name, COALESCE(i.metric_unit, ''))
    WHERE i.id >= first AND i.time < mark.closed_before;
    IF mark.summed_from < 'infinity' THEN
        PERFORM iot.add_open(pg_backend_pid(), array_agg(q.series_id), array_agg(q.bucket), array_agg(q.n), array_agg(q.s),
                             array_agg(q.least), array_agg(q.most), array_agg(q.squares), array_agg(q.valid),
                             array_agg(q.errors))
        FROM (SELECT s.series_id, date_bin('15 minutes', i.time, '2000-01-03 00:00:00+00') AS bucket, count(*) AS n,
                     sum(i.metric_value) AS s, min(i.metric_value) AS least, max(i.metric_value) AS most,
                     regr_sxx(i.metric_value, i.metric_value) AS squares,
                     count(*) FILTER (WHERE q.quality = 1) AS valid,
                     count(*) FILTER (WHERE q.quality NOT IN (0, 1)) AS errors
              FROM iot.inbox AS i
              JOIN iot.series AS s
                ON (s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit)
                 = (i.farm_id, i.device_uid, i.device_type, i.metric_name, COALESCE(i.metric_unit, ''))
              LEFT JOIN (SELECT name, min(quality) AS quality FROM iot.quality GROUP BY name) AS q
                ON q.name = i.data_quality
              WHERE i.id >= first AND i.time >= greatest(mark.stored_before, mark.summed_from)
              GROUP BY 1, 2) AS q
        HAVING count(*) > 0;
    END IF;

    INSERT INTO iot.tag_day (tag, tag_id, day, series_id)
    SELECT DISTINCT t.tag, t.id, date_bin('1 day', i.time, '2000-01-03 00:00:00+00'), s.series_id
    FROM iot.inbox AS i
    CROSS JOIN LATERAL (VALUES (1::smallint, i.animal_id), (2::smallint, i.zone_id)) AS t (tag, id)
    JOIN iot.series AS s
      ON (s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit)
       = (i.farm_id, i.device_uid, i.device_type, i.metric_name, COALESCE(i.metric_unit, ''))
    WHERE i.id >= first AND t.id IS NOT NULL
    ORDER BY 1, 2, 3, 4
    ON CONFLICT DO NOTHING;

    INSERT INTO iot.inbox_statement VALUES (first);
    RETURN NULL;
END;
$$;

-- When a milking was written; NULL: before this was noted.
ALTER TABLE iot.milk_production_realtime ADD COLUMN written timestamptz;

-- Milkings of a day that was dropped are refused, whoever writes them.
CREATE FUNCTION iot.check_milking() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mark record;
BEGIN
    SELECT * INTO mark FROM iot.hold_watermark();
    IF NEW.time < mark.milking_kept_from AND EXISTS (
        SELECT FROM iot.dropped_day
        WHERE source = 'milking' AND day = date_bin('1 day', NEW.time, '2000-01-03 00:00:00+00'))
    THEN
        RAISE EXCEPTION 'a milking came too late: its day % was dropped by retention, and its aggregates stand',
                        to_char(NEW.time AT TIME ZONE 'UTC', 'YYYY-MM-DD')
            USING ERRCODE = 'check_violation', TABLE = 'milk_production_realtime', SCHEMA = 'iot';
    END IF;
    NEW.written := now();
    RETURN NEW;
END;
$$;
CREATE TRIGGER check_day BEFORE INSERT ON iot.milk_production_realtime
FOR EACH ROW EXECUTE FUNCTION iot.check_milking();

-- Drops the milkings of the day that begins at `since`, and keeps their rollup in the same transaction; answers how
-- many. Gives up as iot.close_before does, and where something came into the day at `quiet_since` or later.
CREATE FUNCTION iot.drop_milking_day(since timestamptz, quiet_since timestamptz DEFAULT 'infinity') RETURNS bigint
LANGUAGE plpgsql SET lock_timeout = '800ms' AS $$
DECLARE
    until timestamptz := since + INTERVAL '24 hours';
    n     bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('herdstream'), 2);
    IF EXISTS (SELECT FROM iot.milk_production_realtime
               WHERE time >= since AND time < until AND written >= quiet_since) THEN
        RAISE EXCEPTION 'the milkings before % stay: some came since %', until, quiet_since
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'An import may not be over: try again later.';
    END IF;
    IF NOT EXISTS (SELECT FROM iot.dropped_day WHERE source = 'milking' AND day = since) THEN
        INSERT INTO iot.rollup_milk_daily
               (bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity,
                avg_scc, max_mastitis_risk, avg_fat, avg_protein)
        SELECT since, animal_id, farm_id, sum(yield_kg), avg(yield_kg), count(*), avg(conductivity_ms),
               avg(somatic_cell_count), max(mastitis_risk_score), avg(fat_percent), avg(protein_percent)
        FROM iot.milk_production_realtime
        WHERE time >= since AND time < until
        GROUP BY animal_id, farm_id;
        INSERT INTO iot.dropped_day (source, day) VALUES ('milking', since);
    END IF;
    n := iot.remove_milkings(since, until);
    UPDATE iot.watermark SET milking_kept_from = greatest(milking_kept_from, until);
    RETURN n;
END;
$$;

-- Drops the readings from `since` to `until`, whole days whose rollups are kept, and never takes any for them again;
-- answers whether there was something.
-- Gives up as iot.close_before does, and where something came into these days that no rollup has yet, or at
-- `quiet_since` or later.
CREATE FUNCTION iot.drop_reading_days(since timestamptz, until timestamptz,
                                      quiet_since timestamptz DEFAULT 'infinity') RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '800ms' AS $$
DECLARE
    n bigint;
BEGIN
    IF date_bin('1 day', since, '2000-01-03 00:00:00+00') <> since
       OR date_bin('1 day', until, '2000-01-03 00:00:00+00') <> until OR since >= until THEN
        RAISE EXCEPTION 'from % to % are no whole days', since, until USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM iot.tag_day WHERE day >= since AND day < until;
    PERFORM pg_advisory_xact_lock(hashtext('herdstream'), 2);
    IF (SELECT stored_before FROM iot.watermark) < until THEN
        RAISE EXCEPTION 'the readings before % stay: their rollups are not kept yet', until
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Refresh first.';
    END IF;
    IF EXISTS (SELECT FROM iot.rollup_dirty WHERE day >= since AND day < until) THEN
        RAISE EXCEPTION 'the readings before % stay: some came late and are in no rollup yet', until
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Refresh first.';
    END IF;
    IF EXISTS (SELECT FROM iot.written_day WHERE day >= since AND day < until AND written >= quiet_since) THEN
        RAISE EXCEPTION 'the readings before % stay: some came since %', until, quiet_since
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'An import may not be over: try again later.';
    END IF;
    n := iot.remove_readings(since, until);
    INSERT INTO iot.dropped_day (source, day)
    SELECT 'reading', day FROM generate_series(since, until - INTERVAL '24 hours', INTERVAL '24 hours') AS day
    ON CONFLICT DO NOTHING;
    DELETE FROM iot.written_day WHERE day >= since AND day < until;
    UPDATE iot.watermark SET reading_kept_from = greatest(reading_kept_from, until);
    RETURN n > 0;
END;
$$;

-- Drops the buckets of a level that end by `until`; answers how many.
CREATE FUNCTION iot.drop_rollups(level text, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    IF level NOT IN ('15min', 'hourly', 'daily') THEN
        RAISE EXCEPTION 'there are no rollups of the level %', level
            USING ERRCODE = 'invalid_parameter_value', HINT = 'The levels are 15min, hourly and daily.';
    END IF;
    n := iot.remove_rollups(level, until);
    EXECUTE format('UPDATE iot.watermark SET %1$I = greatest(%1$I, $1)', 'rollup_' || level || '_kept_from')
    USING until;
    RETURN n;
END;
$$;
