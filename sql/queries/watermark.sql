SELECT NULLIF(closed_before, '-infinity') AS closed_before,
       NULLIF(stored_before, '-infinity') AS stored_before,
       NULLIF(summed_from, 'infinity') AS summed_from,
       NULLIF(reading_kept_from, '-infinity') AS reading_kept_from,
       NULLIF(milking_kept_from, '-infinity') AS milking_kept_from,
       NULLIF(rollup_15min_kept_from, '-infinity') AS rollup_15min_kept_from,
       NULLIF(rollup_hourly_kept_from, '-infinity') AS rollup_hourly_kept_from,
       NULLIF(rollup_daily_kept_from, '-infinity') AS rollup_daily_kept_from
FROM iot.watermark
