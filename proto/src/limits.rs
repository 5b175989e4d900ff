//! Constants of protocol version 1. A server may raise what `Opened` advertises, never lower it.

/// Readings and milkings in one batch.
pub const MAX_BATCH_READINGS: usize = 10_000;

/// Series definitions in one batch.
pub const MAX_BATCH_SERIES: usize = 10_000;

/// Encoded bytes of one `Batch` message: 4 MiB.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Encoded bytes of any message that a server decodes. Above [`MAX_BATCH_BYTES`], so that a batch
/// that is too large is refused by name instead of breaking the transport.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Series refs bound on one stream.
pub const MAX_STREAM_SERIES: usize = 100_000;

/// Rejections carried by one `Ack` or `WriteResponse`.
pub const MAX_ACK_REJECTIONS: usize = 500;

/// Characters of a device identifier, metric name, session or gateway name.
pub const MAX_NAME_CHARS: usize = 64;

/// Characters of a device type.
pub const MAX_DEVICE_TYPE_CHARS: usize = 32;

/// Characters of a metric unit, milking type or meter status.
pub const MAX_UNIT_CHARS: usize = 16;

/// Bytes of a reading's metadata.
pub const MAX_METADATA_BYTES: usize = 8192;
