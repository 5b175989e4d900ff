-- The oldest marks that were looked at, of hours that reach into the time from $2 to $3, by day.
SELECT day, array_agg(id) AS ids, NULLIF(min(w.stored_before), '-infinity') AS stored_before
FROM (SELECT id, day FROM iot.rollup_dirty
      WHERE id <= (SELECT looked_mark FROM iot.watermark)
        AND ($2::timestamptz IS NULL OR hour > $2 - INTERVAL '1 hour')
        AND ($3::timestamptz IS NULL OR hour < $3)
      ORDER BY id
      LIMIT $1) AS d
CROSS JOIN iot.watermark AS w
GROUP BY day
ORDER BY day
