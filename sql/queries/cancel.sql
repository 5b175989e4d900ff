-- Not itself: where one backend serves all connections, the statement has ended by now.
SELECT pg_cancel_backend($1) WHERE $1 <> pg_backend_pid()
