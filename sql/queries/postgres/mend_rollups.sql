SELECT hours, buckets
FROM iot.mend_rollups($1, COALESCE($2::timestamptz, '-infinity'), COALESCE($3::timestamptz, 'infinity'))
