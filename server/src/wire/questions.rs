//! Answers to the questions of the query service, for whoever asks: message in, message out.

use herdstream_proto::v1;

use super::convert;
use crate::{
    error::Error,
    ingest::Caller,
    model::now_us,
    query::{
        self, AnimalQuery, DevicesQuery, LatestQuery, MilkQuery, MilkingsQuery, RangeData, RangePage,
        RangeQuery, Resolution, Scope, SeriesQuery, Statistic, SummaryQuery,
    },
    store::{Level, Look, Store},
};

mod messages;

pub(super) use messages::to_series_readings;
use messages::{to_animal_metric, to_farm_day, to_milk_day, to_series_buckets};

/// Requests of one batch.
const MAX_BATCH: usize = 50;

/// Readings and buckets of one batch.
const MAX_BATCH_ROWS: u64 = 50_000;

pub(super) async fn latest(
    store: &dyn Store,
    caller: &Caller,
    request: v1::GetLatestRequest,
) -> Result<v1::GetLatestResponse, Error> {
    let v1::GetLatestRequest { device_uid, farm_id, metric_names } = request;
    let query = LatestQuery { device_uid, farm_id: caller.farm(farm_id)?, metric_names };
    let latest = query::latest(store, query).await?;
    let latest = latest.into_iter().map(|(key, reading)| to_series_readings(key, vec![reading]));
    Ok(v1::GetLatestResponse { latest: latest.collect() })
}

pub(super) async fn range(
    look: &dyn Look,
    caller: &Caller,
    request: v1::QueryRangeRequest,
) -> Result<v1::QueryRangeResponse, Error> {
    range_beside(look, caller, request, 0).await
}

async fn range_beside(
    look: &dyn Look,
    caller: &Caller,
    request: v1::QueryRangeRequest,
    beside: usize,
) -> Result<v1::QueryRangeResponse, Error> {
    let statistics = statistics(&request)?;
    let query = RangeQuery {
        scope: Scope {
            farm_id: caller.farm(request.farm_id)?,
            animal_id: request.animal_id,
            zone_id: request.zone_id,
            device_uid: request.device_uid.clone(),
        },
        resolution: resolution(&request)?,
        metric_name: request.metric_name,
        start_us: request.start_us,
        end_us: request.end_us,
        page_size: request.page_size,
        page_token: request.page_token,
        statistics: statistics.clone(),
        time_zone: request.time_zone,
        max_points: request.max_points,
        beside,
    };
    let RangePage { data, next_token, resolution, kept_from_us } = query::range(look, query).await?;
    let (mut series, mut aggregates) = (Vec::new(), Vec::new());
    match data {
        RangeData::Readings(found) => {
            series.extend(found.into_iter().map(|(key, readings)| to_series_readings(key, readings)));
        }
        RangeData::Buckets(lines) => {
            aggregates.extend(
                lines.into_iter().map(|(key, buckets)| to_series_buckets(key, &buckets, &statistics)),
            );
        }
    }
    Ok(v1::QueryRangeResponse {
        series,
        next_page_token: next_token,
        aggregates,
        resolution: to_resolution(resolution).into(),
        kept_from_us: kept_from_us.unwrap_or_default(),
    })
}

fn resolution(request: &v1::QueryRangeRequest) -> Result<Resolution, Error> {
    match v1::Resolution::try_from(request.resolution) {
        Ok(v1::Resolution::Unspecified | v1::Resolution::Raw) => Ok(Resolution::Raw),
        Ok(v1::Resolution::Resolution15min) => Ok(Resolution::Level(Level::QuarterHour)),
        Ok(v1::Resolution::Hour) => Ok(Resolution::Level(Level::Hour)),
        Ok(v1::Resolution::Day) => Ok(Resolution::Level(Level::Day)),
        Ok(v1::Resolution::Auto) => Ok(Resolution::Auto),
        Err(_) => {
            let message = format!("{} is none: 0 to 5 are expected", request.resolution);
            Err(Error::BadRequest { field: "resolution", message })
        }
    }
}

pub(super) fn to_resolution(resolution: Resolution) -> v1::Resolution {
    match resolution {
        Resolution::Raw => v1::Resolution::Raw,
        Resolution::Level(level) => to_level(level),
        Resolution::Auto => v1::Resolution::Auto,
    }
}

pub(super) fn to_level(level: Level) -> v1::Resolution {
    match level {
        Level::QuarterHour => v1::Resolution::Resolution15min,
        Level::Hour => v1::Resolution::Hour,
        Level::Day => v1::Resolution::Day,
    }
}

fn statistics(request: &v1::QueryRangeRequest) -> Result<Vec<Statistic>, Error> {
    const MOST: usize = 10;
    let refuse = |message| Error::BadRequest { field: "statistics", message };
    if request.statistics.is_empty() {
        return Ok(Statistic::DEFAULT.to_vec());
    }
    if request.statistics.len() > MOST {
        return Err(refuse(format!("{} statistics: at most {MOST}", request.statistics.len())));
    }
    let statistic = |&number: &i32| match v1::Statistic::try_from(number) {
        Ok(v1::Statistic::Count) => Ok(Statistic::Count),
        Ok(v1::Statistic::Sum) => Ok(Statistic::Sum),
        Ok(v1::Statistic::Avg) => Ok(Statistic::Avg),
        Ok(v1::Statistic::Min) => Ok(Statistic::Min),
        Ok(v1::Statistic::Max) => Ok(Statistic::Max),
        Ok(v1::Statistic::Stddev) => Ok(Statistic::Stddev),
        Ok(v1::Statistic::Median) => Ok(Statistic::Median),
        Ok(v1::Statistic::P95) => Ok(Statistic::P95),
        Ok(v1::Statistic::ValidCount) => Ok(Statistic::ValidCount),
        Ok(v1::Statistic::ErrorCount) => Ok(Statistic::ErrorCount),
        Ok(v1::Statistic::Unspecified) | Err(_) => {
            Err(refuse(format!("{number} is none: 1 to 10 are expected")))
        }
    };
    request.statistics.iter().map(statistic).collect()
}

/// Refuses more than one answer holds.
pub(super) fn check_batch(request: &v1::BatchQueryRangeRequest) -> Result<(), Error> {
    let requests = &request.requests;
    let refuse = |message| Err(Error::BadRequest { field: "requests", message });
    if !(1..=MAX_BATCH).contains(&requests.len()) {
        return refuse(format!("{} of them: 1 to {MAX_BATCH} are expected", requests.len()));
    }
    let rows =
        requests.iter().map(|request| if request.page_size == 0 { 1000 } else { request.page_size.into() });
    let rows: u64 = rows.sum();
    if rows > MAX_BATCH_ROWS {
        return refuse(format!("their page_size adds up to {rows}: at most {MAX_BATCH_ROWS}"));
    }
    Ok(())
}

/// Answers to ranges, if [`check_batch`] passes.
pub(super) async fn batch(
    look: &dyn Look,
    caller: &Caller,
    request: v1::BatchQueryRangeRequest,
) -> Result<v1::BatchQueryRangeResponse, Error> {
    check_batch(&request)?;
    let requests = request.requests;
    let beside = requests.len() - 1;
    let mut responses = Vec::with_capacity(requests.len());
    for (index, request) in requests.into_iter().enumerate() {
        let answer = range_beside(look, caller, request, beside).await;
        responses.push(answer.map_err(|error| of_request(index, error))?);
    }
    Ok(v1::BatchQueryRangeResponse { responses })
}

/// Says which of several requests an error is about.
fn of_request(index: usize, error: Error) -> Error {
    match error {
        Error::BadRequest { field, message } => {
            Error::BadRequest { field, message: format!("{message} (requests[{index}])") }
        }
        Error::NotFound(message) => Error::NotFound(format!("{message} (requests[{index}])")),
        other => other,
    }
}

pub(super) async fn milkings(
    look: &dyn Look,
    caller: &Caller,
    request: v1::QueryMilkingsRequest,
) -> Result<v1::QueryMilkingsResponse, Error> {
    let query = MilkingsQuery {
        farm_id: caller.farm(request.farm_id)?,
        animal_id: request.animal_id,
        start_us: request.start_us,
        end_us: request.end_us,
        page_size: request.page_size,
        page_token: request.page_token,
    };
    let (page, kept_from_us) = query::milkings(look, query).await?;
    let milkings = page.items.into_iter().map(convert::to_milking).collect();
    let next_page_token = page.next_token;
    Ok(v1::QueryMilkingsResponse {
        milkings,
        next_page_token,
        kept_from_us: kept_from_us.unwrap_or_default(),
    })
}

pub(super) async fn series(
    look: &dyn Look,
    caller: &Caller,
    request: v1::ListSeriesRequest,
) -> Result<v1::ListSeriesResponse, Error> {
    let v1::ListSeriesRequest { farm_id, device_uid, metric_name, page_size, page_token } = request;
    let farm_id = caller.farm(farm_id)?;
    let query = SeriesQuery { farm_id, device_uid, metric_name, page_size, page_token };
    let page = query::list_series(look, query).await?;
    let series = page.items.into_iter().map(convert::to_series_key).collect();
    Ok(v1::ListSeriesResponse { series, next_page_token: page.next_token })
}

pub(super) async fn devices(
    look: &dyn Look,
    caller: &Caller,
    request: v1::ListDevicesRequest,
) -> Result<v1::ListDevicesResponse, Error> {
    let v1::ListDevicesRequest { farm_id, page_size, page_token } = request;
    let query = DevicesQuery { farm_id: caller.farm(farm_id)?, page_size, page_token };
    let page = query::list_devices(look, query).await?;
    let now_us = now_us();
    let devices = page.items.into_iter().map(|device| convert::to_device(device, now_us)).collect();
    Ok(v1::ListDevicesResponse { devices, next_page_token: page.next_token })
}

pub(super) async fn device_status(
    look: &dyn Look,
    caller: &Caller,
    request: v1::GetDeviceStatusRequest,
) -> Result<v1::GetDeviceStatusResponse, Error> {
    let farm_id = caller.farm(request.farm_id)?;
    let devices = query::device_status(look, farm_id, &request.device_uid).await?;
    let now_us = now_us();
    let devices = devices.into_iter().map(|device| convert::to_device(device, now_us)).collect();
    Ok(v1::GetDeviceStatusResponse { devices })
}

pub(super) async fn farm_summary(
    look: &dyn Look,
    caller: &Caller,
    request: v1::GetFarmDailySummaryRequest,
) -> Result<v1::GetFarmDailySummaryResponse, Error> {
    let query = SummaryQuery {
        farm_id: caller.farm(request.farm_id)?,
        first_date: request.first_date,
        last_date: request.last_date,
        time_zone: request.time_zone,
        metric_names: request.metric_names,
        device_type: request.device_type,
    };
    let (days, kept_from_us) = query::farm_summary(look, query).await?;
    let days = days.into_iter().map(to_farm_day).collect();
    Ok(v1::GetFarmDailySummaryResponse { days, kept_from_us: kept_from_us.unwrap_or_default() })
}

pub(super) async fn milk_days(
    look: &dyn Look,
    caller: &Caller,
    request: v1::GetMilkProductionDailyRequest,
) -> Result<v1::GetMilkProductionDailyResponse, Error> {
    let farm_id = caller.farm(request.farm_id)?;
    let query = MilkQuery {
        farm_id,
        animal_id: request.animal_id,
        first_date: request.first_date,
        last_date: request.last_date,
        time_zone: request.time_zone,
        page_size: request.page_size,
        page_token: request.page_token,
    };
    let page = query::milk_days(look, query).await?;
    let days = page.items.into_iter().map(|day| to_milk_day(farm_id, &day)).collect();
    Ok(v1::GetMilkProductionDailyResponse { days, next_page_token: page.next_token })
}

pub(super) async fn animal_metrics(
    look: &dyn Look,
    caller: &Caller,
    request: v1::GetAnimalMetricsRequest,
) -> Result<v1::GetAnimalMetricsResponse, Error> {
    let end_us = request.end_us;
    let query = AnimalQuery {
        animal_id: request.animal_id,
        farm_id: caller.farm(request.farm_id)?,
        start_us: request.start_us,
        end_us,
        metric_names: request.metric_names,
    };
    let (metrics, kept_from_us) = query::animal_metrics(look, query).await?;
    let metrics = metrics.into_iter().map(|metric| to_animal_metric(metric, end_us)).collect();
    Ok(v1::GetAnimalMetricsResponse { metrics, kept_from_us: kept_from_us.unwrap_or_default() })
}
