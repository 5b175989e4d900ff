-- One partition holds one day (UTC) of readings. It is made before the first commit into that day.

-- Makes the day's partition unless it is there. The partition is made beside the table and then attached, which
-- commits into other days do not wait for. Two sessions may call this at once: the second finds it made.
CREATE FUNCTION iot.ensure_reading_partition(day date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    IF day NOT BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN
        RAISE EXCEPTION 'no partition for the day %: readings are kept from 0001-01-01 to 9999-12-31', day
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    partition := 'reading_' || to_char(day, 'YYYYMMDD');
    IF to_regclass('iot.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    -- The lock that attaching takes: it lets commits pass and makes a second caller wait, who then sees what the first
    -- has made (an advisory lock would leave him with the catalogue as he remembers it).
    LOCK TABLE ONLY iot.reading IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass('iot.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE iot.%I (LIKE iot.reading INCLUDING ALL)', partition);
    EXECUTE format('ALTER TABLE iot.reading ATTACH PARTITION iot.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
END;
$$;

-- The partitions of days, oldest first.
CREATE VIEW iot.reading_partition AS
SELECT c.relname::text AS name,
       to_date(substr(c.relname, 9), 'YYYYMMDD') AS day,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'iot.reading'::regclass AND c.relname ~ '^reading_[0-9]{8}$'
ORDER BY c.relname;

-- What the extension calls time_bucket, so that its users' statements run here with iot in their search_path.
CREATE FUNCTION iot.time_bucket(width interval, "time" timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_bin(width, "time", TIMESTAMPTZ '2000-01-03 00:00:00+00')
$$;
