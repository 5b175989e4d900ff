use std::sync::Arc;

use super::{IncomingBatch, Ingest};
use crate::{error::Error, model::ProducerId};

/// Who is calling, once authenticated.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The gateway that it is; None: anybody.
    pub gateway_id: Option<String>,
    /// The farms it may write for and ask about; empty: all.
    pub farms: Arc<[i32]>,
}

impl Caller {
    /// Refuses a caller that is not the gateway it names.
    pub(super) fn check_name(&self, gateway_id: &str) -> Result<(), Error> {
        match &self.gateway_id {
            Some(own) if own != gateway_id => {
                Err(Error::PermissionDenied(format!("the credentials are those of gateway {own:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses series and milkings of farms that are not the caller's. What names no farm is left to validation.
    pub(super) fn check_farms(&self, batch: &IncomingBatch) -> Result<(), Error> {
        if self.farms.is_empty() {
            return Ok(());
        }
        let series = batch.series.iter().map(|series| series.key.farm_id);
        let milkings = batch.milkings.iter().map(|milking| milking.farm_id);
        match series.chain(milkings).find(|farm| *farm > 0 && !self.farms.contains(farm)) {
            Some(farm) => Err(not_its_farm(farm)),
            None => Ok(()),
        }
    }

    /// The farm to ask about when `farm_id` is asked for, 0 meaning any.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] for a farm that is not the caller's, or for any when it has several.
    pub fn farm(&self, farm_id: i32) -> Result<i32, Error> {
        match (&*self.farms, farm_id) {
            ([], any) => Ok(any),
            ([only], 0) => Ok(*only),
            (_, 0) => Err(Error::PermissionDenied("name one of this gateway's farms in farm_id".to_owned())),
            (own, farm) if own.contains(&farm) => Ok(farm),
            (_, farm) => Err(not_its_farm(farm)),
        }
    }
}

impl Ingest {
    /// Refuses a caller that is not the gateway that owns a producer. One that is new belongs to nobody.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`], [`Error::Store`].
    pub async fn check_owner(&self, caller: &Caller, producer: ProducerId) -> Result<(), Error> {
        let Some(own) = &caller.gateway_id else { return Ok(()) };
        match self.store().producer(producer).await? {
            Some(row) if row.gateway_id != *own => {
                Err(Error::PermissionDenied("the producer belongs to another gateway".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn not_its_farm(farm: i32) -> Error {
    Error::PermissionDenied(format!("farm {farm} is not one of this gateway's"))
}
