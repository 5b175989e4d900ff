SELECT hours, buckets FROM iot.mend_rollups($1, COALESCE($2, '-infinity'), COALESCE($3, 'infinity'))
