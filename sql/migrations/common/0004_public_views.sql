-- The seed's names for readings and devices (its section 7.1), over the narrow tables.

-- The text of a reading's quality. Below 100: herdstream.v1. From 100: texts that old writers brought.
-- A text may have several numbers; a number has one text.
CREATE SEQUENCE iot.quality_number AS smallint START 100;
CREATE TABLE iot.quality (
    quality smallint    PRIMARY KEY DEFAULT nextval('iot.quality_number'),
    name    varchar(16) NOT NULL
);
INSERT INTO iot.quality (quality, name) VALUES (1, 'valid');

-- Every reading has its series; the outer joins let the planner leave out a table whose columns nobody asks for.
CREATE VIEW iot.sensor_data AS
SELECT r.time,
       s.device_uid,
       s.device_type,
       s.farm_id,
       s.metric_name,
       r.value AS metric_value,
       NULLIF(s.metric_unit, '') AS metric_unit,
       q.name AS data_quality,
       r.is_interpolated,
       r.animal_id,
       r.zone_id,
       r.session_id,
       r.battery_level,
       r.signal_strength,
       COALESCE(r.metadata, '{}'::jsonb) AS metadata
FROM iot.reading AS r
LEFT JOIN iot.series AS s ON s.series_id = r.series_id
LEFT JOIN iot.quality AS q ON q.quality = r.quality;

-- Readings that carry an animal.
CREATE VIEW iot.animal_metrics AS
SELECT time, animal_id, farm_id, device_uid, device_type, metric_name, metric_value, metric_unit, data_quality,
       is_interpolated, zone_id, session_id, metadata
FROM iot.sensor_data
WHERE animal_id IS NOT NULL;

-- What was last heard of each device: from its one row, never from its readings.
CREATE VIEW iot.device_current_status AS
SELECT device_uid,
       device_type,
       farm_id,
       last_seen,
       battery_level,
       signal_strength,
       CASE
           WHEN last_seen > now() - INTERVAL '5 minutes' THEN 'online'
           WHEN last_seen > now() - INTERVAL '1 hour' THEN 'degraded'
           ELSE 'offline'
       END AS status
FROM iot.device_status;

-- The seed's rules, word for word; the server's own are in its validation.
CREATE FUNCTION iot.validate_sensor_reading(p_metric_name varchar, p_metric_value double precision) RETURNS varchar
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF p_metric_name = 'temperature' THEN
        IF p_metric_value < -50 OR p_metric_value > 100 THEN
            RETURN 'invalid_range';
        END IF;
    ELSIF p_metric_name = 'activity' THEN
        IF p_metric_value < 0 OR p_metric_value > 1000 THEN
            RETURN 'invalid_range';
        END IF;
    ELSIF p_metric_name = 'yield' THEN
        IF p_metric_value < 0 OR p_metric_value > 100 THEN
            RETURN 'invalid_range';
        END IF;
    END IF;
    RETURN 'valid';
END;
$$;
