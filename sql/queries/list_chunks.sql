SELECT source, name, start_time, end_time, bytes, uncompressed_bytes, compressed
FROM iot.chunk
ORDER BY start_time, source DESC, name
