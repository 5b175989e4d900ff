//! The request side of a stream: batches go out as they were encoded when they were sealed.

use bytes::{BufMut, Bytes};
use herdstream_proto::{
    codec::{BoundedCodec, BoundedDecoder},
    v1::{self, stream_request},
};
use prost::Message as _;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};

use crate::encode::{STREAM_BATCH_TAG, varint_len};

/// What goes out on a stream.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// Anything but a batch.
    Message(stream_request::Message),
    /// A batch, encoded in two parts.
    Batch { head: Bytes, body: Bytes },
}

#[derive(Debug, Default)]
pub(super) struct StreamCodec;

impl Codec for StreamCodec {
    type Encode = Outgoing;
    type Decode = v1::StreamResponse;
    type Encoder = StreamEncoder;
    type Decoder = BoundedDecoder<v1::StreamResponse>;

    fn encoder(&mut self) -> StreamEncoder {
        StreamEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedCodec::<v1::StreamRequest, v1::StreamResponse>::default().decoder()
    }
}

#[derive(Debug)]
pub(super) struct StreamEncoder;

impl Encoder for StreamEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match item {
            Outgoing::Message(message) => {
                // A buffer of tonic grows as needed, so there is always room.
                let _ = v1::StreamRequest { message: Some(message) }.encode(out);
            }
            Outgoing::Batch { head, body } => {
                let mut length = head.len() + body.len();
                out.reserve(1 + varint_len(length as u64) + length);
                out.put_u8(STREAM_BATCH_TAG);
                while length >= 0x80 {
                    out.put_u8(length as u8 | 0x80);
                    length >>= 7;
                }
                out.put_u8(length as u8);
                out.put_slice(&head);
                out.put_slice(&body);
            }
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
