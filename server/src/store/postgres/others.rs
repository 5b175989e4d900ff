//! Milkings and quarantine.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    rows::MilkingRow,
    time,
};
use crate::{
    model::{
        Content, Milking, Offset, ProducerId, Quarantined, Rejection, RejectionCode, RejectionKind,
        field_name,
    },
    store::{MilkingRange, QuarantineSpan, StoreError},
};

/// Writes milkings.
pub(super) async fn insert_milkings(
    connection: &mut PgConnection,
    rows: &[MilkingRow<'_>],
) -> Result<(), sqlx::Error> {
    fn column<T>(rows: &[MilkingRow<'_>], get: impl Fn(&Milking) -> T) -> Vec<T> {
        rows.iter().map(|row| get(row.milking)).collect()
    }
    sqlx::query(sql!("insert_milkings"))
        .bind(column(rows, |milking| time::at(milking.time_us)))
        .bind(rows.iter().map(|row| row.stamp).collect::<Vec<_>>())
        .bind(column(rows, |milking| milking.milk_meter_id))
        .bind(column(rows, |milking| milking.animal_id))
        .bind(column(rows, |milking| milking.farm_id))
        .bind(column(rows, |milking| milking.session_id.clone()))
        .bind(column(rows, |milking| milking.yield_kg))
        .bind(column(rows, |milking| milking.duration_seconds))
        .bind(column(rows, |milking| milking.flow_rate_kg_min))
        .bind(column(rows, |milking| milking.conductivity_ms))
        .bind(column(rows, |milking| milking.temperature_c))
        .bind(column(rows, |milking| milking.blood_detected))
        .bind(column(rows, |milking| milking.fat_percent))
        .bind(column(rows, |milking| milking.protein_percent))
        .bind(column(rows, |milking| milking.lactose_percent))
        .bind(column(rows, |milking| milking.somatic_cell_count))
        .bind(column(rows, |milking| milking.mastitis_risk_score))
        .bind(column(rows, |milking| time::maybe(milking.session_start_us)))
        .bind(column(rows, |milking| time::maybe(milking.session_end_us)))
        .bind(column(rows, |milking| milking.milking_type.clone()))
        .bind(column(rows, |milking| milking.meter_status.clone()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Milkings of a farm, by time.
pub(super) async fn milkings(reader: &mut Reader, range: &MilkingRange) -> Result<Vec<Milking>, StoreError> {
    let bind = |query: Statement| {
        query
            .bind(range.farm_id)
            .bind(range.animal_id)
            .bind(time::at(range.start_us))
            .bind(time::at(range.end_us))
            .bind(signed(range.skip as u64))
            .bind(signed(range.limit as u64))
    };
    let rows = reader.all(sql!("range_milkings"), bind).await?;
    rows.iter().map(milking).collect::<Result<_, _>>().map_err(unavailable)
}

fn milking(row: &PgRow) -> Result<Milking, sqlx::Error> {
    Ok(Milking {
        time_us: time::micros(row.try_get("time")?),
        milk_meter_id: row.try_get("milk_meter_id")?,
        animal_id: row.try_get("animal_id")?,
        farm_id: row.try_get("farm_id")?,
        session_id: row.try_get("session_id")?,
        yield_kg: row.try_get("yield_kg")?,
        duration_seconds: row.try_get("duration_seconds")?,
        flow_rate_kg_min: row.try_get("flow_rate_kg_min")?,
        conductivity_ms: row.try_get("conductivity_ms")?,
        temperature_c: row.try_get("temperature_c")?,
        // Old writers may leave it out.
        blood_detected: row.try_get::<Option<bool>, _>("blood_detected")?.unwrap_or_default(),
        fat_percent: row.try_get("fat_percent")?,
        protein_percent: row.try_get("protein_percent")?,
        lactose_percent: row.try_get("lactose_percent")?,
        somatic_cell_count: row.try_get("somatic_cell_count")?,
        mastitis_risk_score: row.try_get("mastitis_risk_score")?,
        session_start_us: row.try_get::<Option<_>, _>("session_start")?.map(time::micros),
        session_end_us: row.try_get::<Option<_>, _>("session_end")?.map(time::micros),
        milking_type: row.try_get("milking_type")?,
        meter_status: row.try_get("meter_status")?,
    })
}

/// Writes what was refused, each under its producer.
pub(super) async fn insert_quarantine(
    connection: &mut PgConnection,
    records: &[(ProducerId, &Quarantined)],
) -> Result<(), sqlx::Error> {
    fn column<T>(records: &[(ProducerId, &Quarantined)], get: impl Fn(&Quarantined) -> T) -> Vec<T> {
        records.iter().map(|(_, record)| get(record)).collect()
    }
    sqlx::query(sql!("insert_quarantine"))
        .bind(records.iter().map(|(producer, _)| *producer).collect::<Vec<_>>())
        .bind(column(records, |record| signed(record.rejection.offset)))
        .bind(column(records, |record| record.rejection.kind as i16))
        .bind(column(records, |record| record.rejection.index as i32))
        .bind(column(records, |record| record.rejection.code as i16))
        .bind(column(records, |record| record.rejection.field))
        .bind(column(records, |record| record.rejection.message.clone()))
        .bind(column(records, |record| time::at(record.received_us)))
        .bind(column(records, |record| json(record.series.as_ref())))
        .bind(column(records, |record| json(record.content.as_ref())))
        .execute(connection)
        .await?;
    Ok(())
}

fn json(value: Option<&impl serde::Serialize>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok()).map(without_nul)
}

/// The JSON with U+FFFD for U+0000, which JSONB does not take: a record must be kept whatever is in it.
fn without_nul(mut json: String) -> String {
    let mut from = 0;
    while let Some(at) = json[from..].find('\\').map(|at| from + at) {
        if json[at..].starts_with("\\u0000") {
            json.replace_range(at + 2..at + 6, "fffd");
        }
        // Behind the backslash and what it escapes, which may be another one.
        from = at + 2;
    }
    json
}

/// What was refused of a producer, by offset, kind and index.
pub(super) async fn quarantine(
    reader: &mut Reader,
    producer: ProducerId,
    span: QuarantineSpan,
    limit: usize,
) -> Result<Vec<Quarantined>, StoreError> {
    let (offset, kind, index) = span.first;
    let bind = |query: Statement| {
        query
            .bind(producer)
            .bind(signed(offset))
            .bind(i16::from(kind))
            .bind(i32::try_from(index).unwrap_or(i32::MAX))
            .bind(signed(span.last))
            .bind(signed(limit as u64))
    };
    let rows = reader.all(sql!("list_quarantine"), bind).await?;
    rows.iter().map(quarantined).collect()
}

/// What the store itself refused of a producer after `from`, up to `to`.
pub(super) async fn refused(
    connection: &mut PgConnection,
    producer: ProducerId,
    from: Offset,
    to: Offset,
) -> Result<Vec<Rejection>, sqlx::Error> {
    let rows = sqlx::query(sql!("list_refused"))
        .bind(producer)
        .bind(signed(from))
        .bind(signed(to))
        .bind(RejectionCode::StoreRefused as i16)
        .fetch_all(connection)
        .await?;
    Ok(rows.iter().filter_map(|row| quarantined(row).ok()).map(|record| record.rejection).collect())
}

fn quarantined(row: &PgRow) -> Result<Quarantined, StoreError> {
    fn parse<T: serde::de::DeserializeOwned>(text: Option<String>) -> Result<Option<T>, StoreError> {
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| StoreError::Damaged(format!("a quarantine record: {error}")))
    }
    let get = || -> Result<_, sqlx::Error> {
        let small = |column| row.try_get::<i16, _>(column).map(|number| u8::try_from(number).unwrap_or(0));
        Ok((small("kind")?, small("code")?, row.try_get::<String, _>("field")?))
    };
    let (kind, code, field) = get().map_err(unavailable)?;
    let unknown = |what: &str| StoreError::Damaged(format!("a quarantine record with an unknown {what}"));
    let rejection = Rejection {
        offset: row.try_get::<i64, _>("batch_offset").map_err(unavailable)? as u64,
        kind: RejectionKind::from_number(kind).ok_or_else(|| unknown("kind"))?,
        index: row.try_get::<i32, _>("batch_index").map_err(unavailable)? as u32,
        code: RejectionCode::from_number(code).ok_or_else(|| unknown("code"))?,
        field: field_name(&field).ok_or_else(|| unknown("field"))?,
        message: row.try_get("message").map_err(unavailable)?,
    };
    Ok(Quarantined {
        rejection,
        received_us: time::micros(row.try_get("received").map_err(unavailable)?),
        series: parse(row.try_get("series").map_err(unavailable)?)?,
        content: parse::<Content>(row.try_get("content").map_err(unavailable)?)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::without_nul;

    proptest! {
        #[test]
        fn only_nul_is_replaced(text in "[\\x00a\\\\u0\"\\x01é]{0,24}") {
            let kept: String = serde_json::from_str(&without_nul(serde_json::to_string(&text)?))?;
            prop_assert_eq!(kept, text.replace('\0', "\u{fffd}"));
        }
    }
}
