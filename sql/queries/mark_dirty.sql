INSERT INTO iot.rollup_dirty (series_id, hour) SELECT * FROM unnest($1::integer[], $2::timestamptz[])
