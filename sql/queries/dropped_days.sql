SELECT day FROM iot.dropped_day WHERE source = $1 AND day = ANY ($2::timestamptz[])
