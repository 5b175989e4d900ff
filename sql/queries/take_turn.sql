SELECT pg_try_advisory_lock(hashtext('herdstream'), 3) AS taken, pg_backend_pid() AS backend
