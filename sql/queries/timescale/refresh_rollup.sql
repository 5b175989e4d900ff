CALL refresh_continuous_aggregate($1::text::regclass, $2::timestamptz, $3::timestamptz)
