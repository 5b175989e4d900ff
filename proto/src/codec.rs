//! Protobuf codec that counts before it decodes.
//!
//! Two bytes on the wire make an empty `Reading` of a hundred bytes in memory, so the limit on a
//! message's encoded size alone would let one message grow sixtyfold. The number of elements in a
//! batch is therefore checked on the encoded form.

use std::marker::PhantomData;

use bytes::Buf;
use prost::{
    Message, Name,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

use crate::{
    error::Reason,
    limits::{MAX_BATCH_READINGS, MAX_BATCH_SERIES},
};

/// Encoded bytes of a reading with a series and either a time or a value, and its frame.
const LEAST_READING_BYTES: usize = 13;

/// So many elements may be smaller.
const FEW: usize = 100;

/// Encodes `T` and decodes `U` like tonic's own codec, within the bounds of the protocol.
#[derive(Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(PhantomData)
    }
}

/// Decoder of [`BoundedCodec`].
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // A message is decoded only when all of it lies in one buffer, so the chunk is the message.
        decode_bounded(buf.chunk()).inspect(|_| buf.advance(buf.remaining())).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// Decodes one message of the contract.
///
/// # Errors
///
/// `BATCH_TOO_LARGE` when it holds a batch with more elements than the protocol allows,
/// `BAD_MESSAGE` when it is no such message.
pub fn decode_bounded<U: Message + Name + Default>(message: &[u8]) -> Result<U, Status> {
    if let Some(field) = batch_field(U::NAME) {
        check_batches(message, field)?;
    }
    U::decode(message).map_err(|error| malformed(&error))
}

/// Number of the field that holds a `Batch`, in the messages that have one.
fn batch_field(message: &str) -> Option<u32> {
    match message {
        "StreamRequest" => Some(2),
        "WriteRequest" => Some(4),
        _ => None,
    }
}

fn check_batches(mut message: &[u8], batch: u32) -> Result<(), Status> {
    // A field may occur more than once, and its elements then add up.
    let (mut series, mut readings, mut bytes) = (0, 0, 0);
    while let Some(field) = next_field(&mut message)? {
        if let (number, Some(mut body)) = field
            && number == batch
        {
            bytes += body.len();
            while let Some((number, _)) = next_field(&mut body)? {
                match number {
                    2 => series += 1,
                    3 | 4 => readings += 1,
                    _ => {}
                }
            }
        }
    }
    if readings > MAX_BATCH_READINGS {
        return Err(too_large(readings, "readings and milkings", MAX_BATCH_READINGS));
    }
    if readings > FEW && bytes < readings * LEAST_READING_BYTES {
        let text = format!("batch of {readings} readings and milkings in {bytes} bytes: they hold nothing");
        return Err(Reason::BadMessage.status(text, [], None));
    }
    if series > MAX_BATCH_SERIES {
        return Err(too_large(series, "series", MAX_BATCH_SERIES));
    }
    Ok(())
}

/// A field's number and, if it is length-delimited, its content.
type Field<'a> = (u32, Option<&'a [u8]>);

/// Takes one field off the front.
fn next_field<'a>(buf: &mut &'a [u8]) -> Result<Option<Field<'a>>, Status> {
    if buf.is_empty() {
        return Ok(None);
    }
    let (number, wire_type) = decode_key(buf).map_err(|error| malformed(&error))?;
    if wire_type == WireType::LengthDelimited {
        let length = decode_varint(buf).map_err(|error| malformed(&error))?;
        let content = usize::try_from(length).ok().and_then(|length| buf.split_at_checked(length));
        let Some((content, rest)) = content else {
            return Err(Reason::BadMessage.status("malformed message: a field ends beyond it", [], None));
        };
        *buf = rest;
        return Ok(Some((number, Some(content))));
    }
    skip_field(wire_type, number, buf, DecodeContext::default()).map_err(|error| malformed(&error))?;
    Ok(Some((number, None)))
}

fn malformed(error: &prost::DecodeError) -> Status {
    Reason::BadMessage.status(format!("malformed message: {error}"), [], None)
}

fn too_large(count: usize, what: &str, limit: usize) -> Status {
    Reason::BatchTooLarge.status(format!("batch of {count} {what}: at most {limit}, send several"), [], None)
}
