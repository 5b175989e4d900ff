INSERT INTO iot.rollup_open_dirty (series_id, bucket) SELECT * FROM unnest($1::integer[], $2::timestamptz[])
