SELECT count(*) FROM iot.rollup_dirty WHERE id <= (SELECT looked_mark FROM iot.watermark)
