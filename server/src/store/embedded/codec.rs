//! Bytes of rows and blocks: varints, texts, and reading them back without trusting them.

/// Bytes that do not decode, and which part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undecodable(pub(super) &'static str);

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Small numbers of either sign in few bytes.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A presence byte, then the value.
pub(super) fn put_optional<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// What is left to decode.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Undecodable> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Undecodable("it ends early"))?;
        self.0 = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Undecodable> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Undecodable("it ends early"))?;
        self.0 = tail;
        Ok(*head)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Undecodable> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn varint(&mut self) -> Result<u64, Undecodable> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Undecodable("a number is too long"))
    }

    /// A varint that fits a smaller type.
    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Undecodable> {
        T::try_from(self.varint()?).map_err(|_| Undecodable("a number is out of range"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, Undecodable> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed varint that fits a smaller type.
    pub(super) fn integer<T: TryFrom<i64>>(&mut self) -> Result<T, Undecodable> {
        T::try_from(self.signed()?).map_err(|_| Undecodable("a number is out of range"))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Undecodable> {
        let len = self.number()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| Undecodable("a text is not UTF-8"))
    }

    pub(super) fn optional<T>(
        &mut self,
        get: impl FnOnce(&mut Self) -> Result<T, Undecodable>,
    ) -> Result<Option<T>, Undecodable> {
        match self.byte()? {
            0 => Ok(None),
            1 => get(self).map(Some),
            _ => Err(Undecodable("a presence byte is neither 0 nor 1")),
        }
    }

    /// Says that everything was decoded.
    pub(super) fn finish(&self) -> Result<(), Undecodable> {
        if self.0.is_empty() { Ok(()) } else { Err(Undecodable("bytes are left over")) }
    }
}
