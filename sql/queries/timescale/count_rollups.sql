-- Buckets of a level, by its number from the finest: 0, 1, 2.
SELECT CASE $1::integer
    WHEN 0 THEN (SELECT count(*) FROM iot.rollup_15min WHERE bucket >= $2 AND bucket < $3)
    WHEN 1 THEN (SELECT count(*) FROM iot.rollup_hourly WHERE bucket >= $2 AND bucket < $3)
    ELSE (SELECT count(*) FROM iot.rollup_daily WHERE bucket >= $2 AND bucket < $3)
END
