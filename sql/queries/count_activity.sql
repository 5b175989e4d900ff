SELECT COALESCE(sum(readings) FILTER (WHERE minute > $1), 0)::bigint AS last_hour,
       COALESCE(sum(readings), 0)::bigint AS last_24h
FROM iot.activity
WHERE minute > $2 AND minute <= $3
