SELECT pg_advisory_unlock(hashtext('herdstream'), 3)
