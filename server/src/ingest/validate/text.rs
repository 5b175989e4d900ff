use serde_json::Value;

use super::Fault;
use crate::model::RejectionCode;

/// Refuses what a `varchar(max)` would: too many characters, or U+0000.
pub(super) fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), Fault> {
    // Characters are never more than bytes, and most texts are short.
    if text.len() > max {
        let chars = text.chars().count();
        if chars > max {
            let message = format!("{} has {chars} characters, at most {max} are kept", quote(text));
            return Err(Fault::new(RejectionCode::TextTooLong, field, message));
        }
    }
    if text.as_bytes().contains(&0) {
        return Err(Fault::new(RejectionCode::TextInvalid, field, format!("{} holds U+0000", quote(text))));
    }
    Ok(())
}

/// As [`check_text`], and refuses the empty text.
pub(super) fn check_required(field: &'static str, text: &str, max: usize) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::new(RejectionCode::Required, field, "missing or empty"));
    }
    check_text(field, text, max)
}

/// Refuses what is no JSON object, or what JSONB would refuse.
pub(super) fn check_metadata(field: &'static str, text: &str, max_bytes: usize) -> Result<(), Fault> {
    if text.len() > max_bytes {
        let message = format!("{} bytes, at most {max_bytes} are kept", text.len());
        return Err(Fault::new(RejectionCode::TextTooLong, field, message));
    }
    let refused = |why: String| Fault::new(RejectionCode::MetadataInvalid, field, why);
    match serde_json::from_str::<Value>(text) {
        Ok(value @ Value::Object(_)) if holds_nul(&value) => {
            Err(refused(format!("{} holds \\u0000, which JSONB does not keep", quote(text))))
        }
        Ok(Value::Object(_)) => Ok(()),
        Ok(_) => Err(refused(format!("{} is not a JSON object", quote(text)))),
        Err(error) => Err(refused(format!("{} is not JSON: {error}", quote(text)))),
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A text for a message: quoted, escaped, cut to 40 characters.
pub fn quote(text: &str) -> String {
    let cut = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    let ellipsis = if cut < text.len() { "…" } else { "" };
    format!("{:?}{ellipsis}", &text[..cut])
}
