-- Refresh, compression, retention: the seed's ages (its section 7.1).
-- The names of before 2.18 (compress, not columnstore): every version from 2.17 knows them.

ALTER TABLE iot.reading SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'series_id',
    timescaledb.compress_orderby = 'time DESC'
);
ALTER TABLE iot.milk_production_realtime SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'farm_id, animal_id',
    timescaledb.compress_orderby = 'time DESC'
);
SELECT add_compression_policy('iot.reading', INTERVAL '7 days');
SELECT add_compression_policy('iot.milk_production_realtime', INTERVAL '7 days');

-- A policy sees late readings only inside its window, and a refresh over dropped readings erases their rollup: so the
-- window is longer than the accepted lateness (60 days) and shorter than the retention of readings (90 days).
-- Refreshes that start together take many times longer, so each has a minute of its own.
SELECT add_continuous_aggregate_policy('iot.rollup_15min',
    start_offset => INTERVAL '63 days', end_offset => INTERVAL '15 minutes', schedule_interval => INTERVAL '15 minutes',
    initial_start => date_trunc('hour', now()) + INTERVAL '1 hour 2 minutes');
SELECT add_continuous_aggregate_policy('iot.rollup_hourly',
    start_offset => INTERVAL '63 days', end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '1 hour',
    initial_start => date_trunc('hour', now()) + INTERVAL '1 hour 7 minutes');
SELECT add_continuous_aggregate_policy('iot.rollup_daily',
    start_offset => INTERVAL '63 days', end_offset => INTERVAL '1 day', schedule_interval => INTERVAL '6 hours',
    initial_start => date_trunc('day', now(), 'UTC') + INTERVAL '1 day 11 minutes');
SELECT add_continuous_aggregate_policy('iot.rollup_milk_daily',
    start_offset => INTERVAL '63 days', end_offset => INTERVAL '1 day', schedule_interval => INTERVAL '6 hours',
    initial_start => date_trunc('day', now(), 'UTC') + INTERVAL '1 day 13 minutes');

-- Daily rollups are kept.
SELECT add_retention_policy('iot.reading', INTERVAL '90 days');
SELECT add_retention_policy('iot.milk_production_realtime', INTERVAL '90 days');
SELECT add_retention_policy('iot.rollup_15min', INTERVAL '180 days');
SELECT add_retention_policy('iot.rollup_hourly', INTERVAL '365 days');
