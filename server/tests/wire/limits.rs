//! What no message may do: crash the server, or make it grow.

use bytes::{Buf, BufMut, Bytes};
use herdstream_proto::{
    error::Reason,
    v1::{self, stream_request},
};
use herdstream_server::testing::TestServer;
use http::uri::PathAndQuery;
use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::{
    Code, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};

use crate::client::{RawStream, assert_reason, batch, pool_is_whole, sent, stored};

const STREAM: &str = "/herdstream.v1.IngestService/Stream";
const WATCH: &str = "/herdstream.v1.QueryService/WatchReadings";

/// Every RPC of the contract, as a path.
fn rpcs() -> Vec<String> {
    let files = FileDescriptorSet::decode(herdstream_proto::FILE_DESCRIPTOR_SET).expect("the contract");
    let mut paths = Vec::new();
    for file in files.file {
        for service in &file.service {
            let path = |rpc: &MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), rpc.name())
            };
            paths.extend(service.method.iter().map(path));
        }
    }
    assert!([STREAM, WATCH].iter().all(|path| paths.iter().any(|known| known == path)), "{paths:?}");
    paths
}

/// Carries bytes as they are.
#[derive(Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Sends messages to an RPC; answers how it ended.
async fn call(channel: &Channel, rpc: &str, messages: Vec<Bytes>) -> Code {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("the server listens");
    let path: PathAndQuery = rpc.parse().expect("a path");
    let request = tonic::Request::new(tokio_stream::iter(messages));
    let ended = async {
        let mut responses = client.streaming(request, path, RawCodec).await?.into_inner();
        // Whoever watches is told until he hangs up.
        while responses.message().await?.is_some() && rpc != WATCH {}
        Ok::<_, Status>(())
    };
    let ended = tokio::time::timeout(crate::client::PATIENCE, ended).await.expect("an answer in time");
    ended.map_or_else(|status| status.code(), |()| Code::Ok)
}

/// Sound messages of each kind, to be mutated.
fn sound() -> Vec<Bytes> {
    let open = v1::Open {
        protocol_version: 1,
        producer_id: uuid::Uuid::new_v4().to_string(),
        instance_id: "i".to_owned(),
        gateway_id: "g".to_owned(),
        first_retained_offset: 1,
        next_offset: 100,
        sdk: String::new(),
    };
    let request = |message| v1::StreamRequest { message: Some(message) }.encode_to_vec().into();
    vec![
        request(stream_request::Message::Open(open)),
        request(sent(batch(1, "fuzzed", 3))),
        request(stream_request::Message::Skip(v1::Skip { first: 2, last: 3, readings: 1, reason: 5 })),
        request(stream_request::Message::Ping(v1::Ping { nonce: 1 })),
    ]
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), 1..=255_u8).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        index().prop_map(Mutation::Cut),
        (index(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
    ]
}

fn mutate(message: &Bytes, mutations: &[Mutation]) -> Bytes {
    let mut bytes = message.to_vec();
    for mutation in mutations {
        match mutation {
            _ if bytes.is_empty() => {}
            Mutation::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Mutation::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
    bytes.into()
}

#[test]
fn random_and_mutated_messages_to_every_rpc_are_answered_and_change_nothing() {
    /// Its name is further from any mutated one than a few mutations.
    const DEVICE: &str = "a-device-of-nobody-else";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (server, channel, admin) = runtime.block_on(async {
        let server = TestServer::start().await;
        let (mut stream, _) = RawStream::open(&server).await;
        stream.send(sent(batch(1, DEVICE, 10))).await;
        stream.acked(1).await;
        let connect = async |url| Endpoint::new::<String>(url).unwrap().connect().await.unwrap();
        let channel = connect(server.endpoint()).await;
        let admin = connect(server.admin_endpoint().expect("it is on unless switched off")).await;
        (server, channel, admin)
    });
    let random = prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| vec![Bytes::from(bytes)]);
    let mutated = (0..4_usize, prop::collection::vec(mutation(), 1..4)).prop_map(|(kind, mutations)| {
        // The stream up to the mutated message, so that each kind is met in its place.
        let mut messages = sound();
        messages[kind] = mutate(&messages[kind], &mutations);
        messages
    });
    let cases = (prop::sample::select(rpcs()), prop_oneof![random, mutated]);
    let config = Config { cases: 1200, failure_persistence: None, ..Config::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    println!("seed {seed} (set PROPTEST_RNG_SEED to repeat)");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..config });
    runner
        .run(&cases, |(rpc, mut messages)| {
            if rpc != STREAM {
                messages.truncate(1);
            }
            let channel = if rpc.contains("AdminService") { &admin } else { &channel };
            let code = runtime.block_on(call(channel, &rpc, messages));
            // An id instead of a reason, or a broken connection, would be a bug of the server.
            prop_assert!(
                !matches!(code, Code::Internal | Code::Unknown | Code::Unavailable),
                "{rpc}: {code:?}"
            );
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        pool_is_whole(&server).await;
        assert_eq!(stored(&server, DEVICE).await.len(), 10);
        server.stop().await;
    });
}

#[tokio::test]
async fn a_small_message_of_a_million_empty_readings_is_refused_before_it_is_decoded() {
    let server = TestServer::start().await;
    let channel = Endpoint::new(server.endpoint()).unwrap().connect().await.unwrap();
    // Field 3 of a batch, empty, two bytes each.
    let readings = [0x1a, 0x00].repeat(1_000_000);
    let mut message = vec![0x12];
    prost::encoding::encode_varint(readings.len() as u64, &mut message);
    message.extend(readings);
    let mut messages = sound();
    messages[1] = message.into();
    assert_eq!(call(&channel, STREAM, messages).await, Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_by_name_on_the_unary_call_too() {
    let server = TestServer::start().await;
    let mut huge = batch(0, "d", 1);
    huge.readings[0].metadata = Some("x".repeat(9 << 20));
    let write = v1::WriteRequest { batch: Some(huge), ..v1::WriteRequest::default() };
    let status = crate::client::ingest_client(&server).await.write(write).await.unwrap_err();
    assert_reason(&status, Reason::BatchTooLarge);
    server.stop().await;
}
