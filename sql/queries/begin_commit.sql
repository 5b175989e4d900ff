SELECT commit_number,
       NULLIF(closed_before, '-infinity') AS closed_before,
       NULLIF(reading_kept_from, '-infinity') AS reading_kept_from,
       NULLIF(milking_kept_from, '-infinity') AS milking_kept_from,
       NULLIF(stored_before, '-infinity') AS stored_before,
       NULLIF(summed_from, 'infinity') AS summed_from,
       looked_mark,
       pg_postmaster_start_time() AS started
FROM iot.begin_commit()
