SELECT chunk_name::text AS name, is_compressed, range_start, range_end
FROM timescaledb_information.chunks
WHERE hypertable_schema = 'iot' AND hypertable_name = 'reading' AND chunk_creation_time > now() - INTERVAL '1 day'
