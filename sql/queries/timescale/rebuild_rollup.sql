-- Also what nothing was written into: from TimescaleDB 2.18 on.
CALL refresh_continuous_aggregate($1::text::regclass, $2::timestamptz, $3::timestamptz, force => true)
