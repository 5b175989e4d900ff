-- A join that is one row: whose turn it is, after waiting for it.
SELECT true AS taken, pg_backend_pid() AS backend FROM pg_advisory_lock(hashtext('herdstream'), 3)
