-- The extension makes its chunks itself; whoever writes need not know on which profile.
CREATE FUNCTION iot.ensure_reading_partition(day date) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF day NOT BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN
        RAISE EXCEPTION 'no chunk for the day %: readings are kept from 0001-01-01 to 9999-12-31', day
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
END;
$$;
