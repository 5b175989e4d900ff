-- Partitions: made once, of one day, with every index.

DO $$
BEGIN
    -- One day is one partition, in UTC whatever the session says.
    SET LOCAL TimeZone = 'Asia/Kathmandu';
    PERFORM iot.ensure_reading_partition('2031-03-01');
    PERFORM iot.ensure_reading_partition('2031-03-01');
    IF (SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'iot.reading_20310301'::regclass)
       <> format('FOR VALUES FROM (%L) TO (%L)', TIMESTAMPTZ '2031-03-01 00:00:00+00',
                 TIMESTAMPTZ '2031-03-02 00:00:00+00') THEN
        RAISE EXCEPTION 'bounds: %', (SELECT pg_get_expr(relpartbound, oid) FROM pg_class
                                      WHERE oid = 'iot.reading_20310301'::regclass);
    END IF;
    IF (SELECT count(*) FROM pg_index WHERE indrelid = 'iot.reading_20310301'::regclass)
       <> (SELECT count(*) FROM pg_index WHERE indrelid = 'iot.reading'::regclass) THEN
        RAISE EXCEPTION 'indexes of a partition';
    END IF;
    BEGIN
        PERFORM iot.ensure_reading_partition('infinity');
        RAISE EXCEPTION 'a partition without end';
    EXCEPTION WHEN datetime_field_overflow THEN NULL;
    END;
    DROP TABLE iot.reading_20310301;
END;
$$;
