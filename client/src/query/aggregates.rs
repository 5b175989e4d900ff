//! Questions about aggregates, series and devices, and answers that are streams.

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use herdstream_proto::v1;

use super::{QueryClient, pages};
use crate::error::Error;

impl QueryClient {
    /// The first pages of several ranges at once.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn batch_query_range(
        &self,
        requests: Vec<v1::QueryRangeRequest>,
    ) -> Result<Vec<v1::QueryRangeResponse>, Error> {
        let request = self.0.request(v1::BatchQueryRangeRequest { requests });
        Ok(self.0.call(self.queries().batch_query_range(request)).await?.responses)
    }

    /// All buckets of one metric in a range of time: asks for page after page.
    ///
    /// Yields the buckets of one line of one page at a time; ends after the first error.
    pub fn query_buckets_all(
        &self,
        request: v1::QueryRangeRequest,
    ) -> impl Stream<Item = Result<v1::SeriesBuckets, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) = (client.clone(), v1::QueryRangeRequest { page_token, ..request.clone() });
            async move {
                let page = client.query_range(request).await?;
                Ok((page.aggregates, page.next_page_token))
            }
        })
    }

    /// All readings of a range, however many, as fast as they are taken.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream ends after the first.
    pub async fn stream_range(
        &self,
        request: v1::StreamRangeRequest,
    ) -> Result<impl Stream<Item = Result<v1::SeriesReadings, Error>> + Send + use<>, Error> {
        let parts = self.stream_range_parts(request).await?;
        Ok(parts.filter_map(|part| async move { part.map(|part| part.series).transpose() }))
    }

    /// As [`QueryClient::stream_range`], in messages that also tell from when on readings are kept: the first comes even
    /// where there are no readings.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream ends after the first.
    pub async fn stream_range_parts(
        &self,
        request: v1::StreamRangeRequest,
    ) -> Result<impl Stream<Item = Result<v1::StreamRangeResponse, Error>> + Send + use<>, Error> {
        let answers = self.0.call(self.queries().stream_range(self.0.stream_request(request))).await?;
        Ok(answers.map_err(Error::from))
    }

    /// The newest reading of each series now, and again whenever there is a newer one. Whoever takes slowly gets the
    /// newest, not all.
    ///
    /// # Errors
    ///
    /// See [`Error`]; the stream ends after the first.
    pub async fn watch_readings(
        &self,
        request: v1::WatchReadingsRequest,
    ) -> Result<impl Stream<Item = Result<Vec<v1::SeriesReadings>, Error>> + Send + use<>, Error> {
        let answers = self.0.call(self.queries().watch_readings(self.0.stream_request(request))).await?;
        Ok(answers.map(|part| Ok(part?.changed)))
    }

    /// One page of series.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn list_series(&self, request: v1::ListSeriesRequest) -> Result<v1::ListSeriesResponse, Error> {
        self.0.call(self.queries().list_series(self.0.request(request))).await
    }

    /// All series: asks for page after page.
    ///
    /// Ends after the first error.
    pub fn list_series_all(
        &self,
        request: v1::ListSeriesRequest,
    ) -> impl Stream<Item = Result<v1::SeriesKey, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) = (client.clone(), v1::ListSeriesRequest { page_token, ..request.clone() });
            async move {
                let page = client.list_series(request).await?;
                Ok((page.series, page.next_page_token))
            }
        })
    }

    /// The state of a device on each farm that knows it.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an unknown device; see [`Error`] for the rest.
    pub async fn get_device_status(
        &self,
        request: v1::GetDeviceStatusRequest,
    ) -> Result<Vec<v1::Device>, Error> {
        Ok(self.0.call(self.queries().get_device_status(self.0.request(request))).await?.devices)
    }

    /// A farm's days: each metric of each kind of device.
    ///
    /// # Errors
    ///
    /// `NOT_FOUND` for an unknown farm; see [`Error`] for the rest.
    pub async fn get_farm_daily_summary(
        &self,
        request: v1::GetFarmDailySummaryRequest,
    ) -> Result<v1::GetFarmDailySummaryResponse, Error> {
        self.0.call(self.queries().get_farm_daily_summary(self.0.request(request))).await
    }

    /// One page of milk by animal and day.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_milk_production_daily(
        &self,
        request: v1::GetMilkProductionDailyRequest,
    ) -> Result<v1::GetMilkProductionDailyResponse, Error> {
        self.0.call(self.queries().get_milk_production_daily(self.0.request(request))).await
    }

    /// All milk by animal and day: asks for page after page.
    ///
    /// Ends after the first error.
    pub fn get_milk_production_daily_all(
        &self,
        request: v1::GetMilkProductionDailyRequest,
    ) -> impl Stream<Item = Result<v1::MilkDay, Error>> + Send + use<> {
        let client = self.clone();
        pages(request.page_token.clone(), move |page_token| {
            let (client, request) =
                (client.clone(), v1::GetMilkProductionDailyRequest { page_token, ..request.clone() });
            async move {
                let page = client.get_milk_production_daily(request).await?;
                Ok((page.days, page.next_page_token))
            }
        })
    }

    /// What was measured of an animal: each metric with its newest reading and its statistics.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn get_animal_metrics(
        &self,
        request: v1::GetAnimalMetricsRequest,
    ) -> Result<v1::GetAnimalMetricsResponse, Error> {
        self.0.call(self.queries().get_animal_metrics(self.0.request(request))).await
    }
}
