//! Finds COMMITs in what a client says, and their answers, by the framing of the PostgreSQL protocol alone.

/// Queries up to so many bytes are looked at: a COMMIT is short.
const SHORT: usize = 1 << 10;
/// Type and length of a message.
const HEAD: usize = 5;

/// Bytes to be forwarded together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A query that ends with COMMIT.
    Commit(Vec<u8>),
    Other(Vec<u8>),
}

/// What a client says.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// The first message, which has no type, has gone by.
    begun: bool,
    /// Bytes of the current message that are still to come.
    left: usize,
}

impl Part {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Commit(bytes) | Self::Other(bytes) => bytes,
        }
    }
}

impl Messages {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next bytes that can be judged.
    pub(super) fn next(&mut self) -> Option<Part> {
        if self.left > 0 {
            return self.take(self.left.min(self.bytes.len()));
        }
        if !self.begun {
            self.left = length(self.bytes.get(..4)?);
            self.begun = true;
            return self.take(self.left.min(self.bytes.len()));
        }
        let length = 1 + length(self.bytes.get(1..HEAD)?);
        if self.bytes[0] == b'Q' && length <= SHORT {
            let query = self.bytes.get(HEAD..length)?;
            let commit = is_commit(query);
            let bytes = self.bytes.drain(..length).collect();
            return Some(if commit { Part::Commit(bytes) } else { Part::Other(bytes) });
        }
        self.left = length;
        self.take(self.left.min(self.bytes.len()))
    }

    fn take(&mut self, count: usize) -> Option<Part> {
        self.left -= count;
        (count > 0).then(|| Part::Other(self.bytes.drain(..count).collect()))
    }
}

/// What a server says, from the beginning of a message on.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<u8>);

impl Answers {
    /// Whether the answer to the query is there: that it is done, or an error.
    pub(super) fn complete(&mut self, bytes: &[u8]) -> bool {
        self.0.extend_from_slice(bytes);
        let mut rest = &self.0[..];
        while rest.len() >= HEAD {
            if matches!(rest[0], b'C' | b'E') {
                return true;
            }
            let length = 1 + length(&rest[1..HEAD]);
            rest = rest.get(length..).unwrap_or_default();
        }
        false
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
}

fn is_commit(query: &[u8]) -> bool {
    let text = String::from_utf8_lossy(query).to_uppercase();
    let text = text.trim_end_matches(|c: char| c == ';' || c == '\0' || c.is_whitespace());
    text.strip_suffix("COMMIT")
        .is_some_and(|before| before.chars().next_back().is_none_or(|c| !c.is_alphanumeric() && c != '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
        [&[kind][..], &(payload.len() as u32 + 4).to_be_bytes(), payload].concat()
    }

    /// Every message, however the bytes come.
    #[test]
    fn commits_are_found_in_pieces_of_any_size() {
        let startup = message(0, b"\0\x03\0\0user\0me\0\0")[1..].to_vec();
        let data = message(b'd', &[b'Q'; 3000]);
        let said = [
            startup,
            message(b'Q', b"BEGIN\0"),
            data,
            message(b'Q', b"SELECT 'commit' AS precommit\0"),
            message(b'Q', b" commit ;\0"),
            message(b'P', b"\0COMMIT\0\0\0"),
            message(b'Q', b"INSERT INTO t VALUES (1); COMMIT\0"),
        ]
        .concat();
        for size in [1, 2, 7, 1000, said.len()] {
            let (mut messages, mut through, mut commits) = (Messages::default(), Vec::new(), Vec::new());
            for piece in said.chunks(size) {
                messages.push(piece);
                while let Some(part) = messages.next() {
                    through.extend_from_slice(part.bytes());
                    if let Part::Commit(bytes) = part {
                        commits.push(bytes[HEAD..].to_vec());
                    }
                }
            }
            assert_eq!(through, said, "pieces of {size}");
            let expected = [&b" commit ;\0"[..], b"INSERT INTO t VALUES (1); COMMIT\0"];
            assert_eq!(commits, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_answer_is_complete_when_it_says_so() {
        let mut answers = Answers::default();
        let notice = message(b'N', b"Cotice\0");
        assert!(!answers.complete(&notice[..3]));
        assert!(!answers.complete(&notice[3..]));
        assert!(!answers.complete(&message(b'C', b"COMMIT\0")[..2]));
        assert!(answers.complete(&message(b'C', b"COMMIT\0")[2..]));
    }
}
