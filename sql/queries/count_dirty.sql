SELECT count(*) FROM (SELECT DISTINCT series_id, day, hour FROM iot.rollup_dirty) AS d
