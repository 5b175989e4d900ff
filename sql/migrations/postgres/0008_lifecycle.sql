-- Retention of readings: a day is rolled up and closed before it is dropped, so that no rollup changes.

-- Rolls up one day in the levels that have not closed it, and moves their watermarks behind it. Oldest day first.
CREATE FUNCTION iot.close_reading_day(day date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    open  text[];
BEGIN
    SELECT array_agg(level) INTO open
    FROM (SELECT level FROM iot.rollup_watermark
          WHERE level IN ('15min', 'hourly', 'daily') AND closed_before < until
          ORDER BY level FOR UPDATE) AS w;

    IF '15min' = ANY (open) THEN
        INSERT INTO iot.rollup_15min
               (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, valid_count,
                error_count)
        SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00'), series_id,
               count(*), sum(value), min(value), max(value), stddev(value), count(*) FILTER (WHERE quality = 1),
               count(*) FILTER (WHERE quality NOT IN (0, 1))
        FROM iot.reading
        WHERE time >= since AND time < until
        GROUP BY 1, 2
        ON CONFLICT DO NOTHING;
    END IF;

    IF 'hourly' = ANY (open) THEN
        INSERT INTO iot.rollup_hourly
               (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value,
                p95_value, valid_count, error_count)
        SELECT date_bin('1 hour', time, '2000-01-03 00:00:00+00'), series_id,
               count(*), sum(value), min(value), max(value), stddev(value),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY value),
               percentile_cont(0.95) WITHIN GROUP (ORDER BY value), count(*) FILTER (WHERE quality = 1),
               count(*) FILTER (WHERE quality NOT IN (0, 1))
        FROM iot.reading
        WHERE time >= since AND time < until
        GROUP BY 1, 2
        ON CONFLICT DO NOTHING;
    END IF;

    IF 'daily' = ANY (open) THEN
        INSERT INTO iot.rollup_daily
               (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value,
                valid_count, error_count)
        SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00'), series_id,
               count(*), sum(value), min(value), max(value), stddev(value),
               percentile_cont(0.5) WITHIN GROUP (ORDER BY value), count(*) FILTER (WHERE quality = 1),
               count(*) FILTER (WHERE quality NOT IN (0, 1))
        FROM iot.reading
        WHERE time >= since AND time < until
        GROUP BY 1, 2
        ON CONFLICT DO NOTHING;
    END IF;

    UPDATE iot.rollup_watermark SET closed_before = until WHERE level = ANY (open);
END;
$$;

-- Drops the days that ended longer ago than `older_than`, oldest first, and names their partitions; `limit_days` of
-- them at most; with `dry_run` only names them. Dropping waits for the commits under way, and those that follow wait
-- for it: so it gives up before a deadlock would be looked for (1 s), having changed nothing, and may be repeated.
CREATE FUNCTION iot.drop_reading_partitions(older_than interval, dry_run boolean DEFAULT false,
                                            limit_days integer DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SET lock_timeout = '800ms' AS $$
DECLARE
    days  date[];
    names text[];
    n     integer;
BEGIN
    IF older_than < INTERVAL '0' THEN
        RAISE EXCEPTION 'readings can be dropped by their age only, and % is none', older_than
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT array_agg(p.day), array_agg(p.name) INTO days, names
    FROM (SELECT day, name FROM iot.reading_partition
          WHERE (day + 1)::timestamp AT TIME ZONE 'UTC' <= now() - older_than
          ORDER BY day LIMIT limit_days) AS p;
    IF names IS NULL THEN
        RETURN;
    END IF;
    IF NOT dry_run THEN
        FOR n IN 1 .. cardinality(names) LOOP
            -- Nobody writes into a day while it is rolled up; other days are free.
            EXECUTE format('LOCK TABLE iot.%I IN SHARE MODE', names[n]);
            PERFORM iot.close_reading_day(days[n]);
        END LOOP;
        -- Last, for from the first drop to the end of the transaction no commit passes.
        FOR n IN 1 .. cardinality(names) LOOP
            EXECUTE format('DROP TABLE iot.%I', names[n]);
        END LOOP;
    END IF;
    RETURN QUERY SELECT unnest(names);
END;
$$;

-- Deletes the milkings of the days that ended longer ago than `older_than`, and keeps their rollup in one statement
-- with it; answers how many. With `dry_run` only counts.
CREATE FUNCTION iot.delete_milkings(older_than interval, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    cut    timestamptz := date_trunc('day', now() - older_than, 'UTC');
    closed timestamptz;
    n      bigint;
BEGIN
    IF older_than < INTERVAL '0' THEN
        RAISE EXCEPTION 'milkings can be deleted by their age only, and % is none', older_than
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT count(*) INTO n FROM iot.milk_production_realtime WHERE time < cut;
    IF dry_run THEN
        RETURN n;
    END IF;
    SELECT closed_before INTO closed FROM iot.rollup_watermark WHERE level = 'milk_daily' FOR UPDATE;
    WITH gone AS (
        DELETE FROM iot.milk_production_realtime WHERE time < cut RETURNING *
    ), kept AS (
        INSERT INTO iot.rollup_milk_daily
               (bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity,
                avg_scc, max_mastitis_risk, avg_fat, avg_protein)
        SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00'), animal_id, farm_id, sum(yield_kg), avg(yield_kg),
               count(*), avg(conductivity_ms), avg(somatic_cell_count), max(mastitis_risk_score), avg(fat_percent),
               avg(protein_percent)
        FROM gone
        WHERE time >= closed
        GROUP BY 1, 2, 3
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) INTO n FROM gone;
    UPDATE iot.rollup_watermark SET closed_before = greatest(closed_before, cut) WHERE level = 'milk_daily';
    RETURN n;
END;
$$;

-- Deletes a level's kept buckets that are older than `older_than`; answers how many. With `dry_run` only counts.
-- Buckets that are answered from readings are not its business.
CREATE FUNCTION iot.delete_rollups(level text, older_than interval, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    IF older_than < INTERVAL '0' OR NOT EXISTS (SELECT FROM iot.rollup_watermark AS w WHERE w.level = $1) THEN
        RAISE EXCEPTION 'no rollups of the level % and the age % can be deleted', level, older_than
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'The levels are 15min, hourly, daily and milk_daily; an age is not negative.';
    END IF;
    IF dry_run THEN
        EXECUTE format('SELECT count(*) FROM iot.%I WHERE bucket < $1', 'rollup_' || level)
        INTO n USING now() - older_than;
    ELSE
        EXECUTE format('DELETE FROM iot.%I WHERE bucket < $1', 'rollup_' || level) USING now() - older_than;
        GET DIAGNOSTICS n = ROW_COUNT;
    END IF;
    RETURN n;
END;
$$;
