SELECT count(*) FROM iot.rollup_dirty
