SELECT s.since, s.until, NULLIF(w.stored_before, '-infinity') AS stored_before
FROM iot.next_stretch() AS s CROSS JOIN iot.watermark AS w
