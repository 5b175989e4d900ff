-- How many buckets of each level begin before $1, $2, $3.
SELECT CASE WHEN $1::timestamptz IS NULL THEN 0
            ELSE (SELECT count(*) FROM iot.rollup_15min WHERE bucket < $1) END AS quarters,
       CASE WHEN $2::timestamptz IS NULL THEN 0
            ELSE (SELECT count(*) FROM iot.rollup_hourly WHERE bucket < $2) END AS hours,
       CASE WHEN $3::timestamptz IS NULL THEN 0
            ELSE (SELECT count(*) FROM iot.rollup_daily WHERE bucket < $3) END AS days
