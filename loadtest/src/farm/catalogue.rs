//! What devices measure: the seed's load test, section 8.1, with the units of the sensor table.

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceType {
    /// Barn climate.
    TempSensor,
    /// Milking parlour.
    MilkMeter,
    /// On a cow.
    Collar,
    /// Feed.
    Dispenser,
}

impl DeviceType {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::TempSensor => "temp_sensor",
            Self::MilkMeter => "milk_meter",
            Self::Collar => "collar",
            Self::Dispenser => "dispenser",
        }
    }

    /// What it measures.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::TempSensor => &[Metric::Temperature, Metric::Humidity],
            Self::MilkMeter => &[Metric::Yield, Metric::Conductivity, Metric::FlowRate],
            Self::Collar => &[Metric::Activity, Metric::Rumination, Metric::Rest],
            Self::Dispenser => &[Metric::DispensedAmount, Metric::HopperLevel],
        }
    }

    /// So many devices of a farm.
    pub fn herd_of(count: usize) -> impl Iterator<Item = Self> {
        Self::herd().take(count)
    }

    /// The devices of a farm, without end: mostly collars, some meters, few of the rest.
    pub(super) fn herd() -> impl Iterator<Item = Self> {
        const GROUP: [DeviceType; 9] = [
            DeviceType::TempSensor,
            DeviceType::Collar,
            DeviceType::Collar,
            DeviceType::MilkMeter,
            DeviceType::Collar,
            DeviceType::Dispenser,
            DeviceType::Collar,
            DeviceType::MilkMeter,
            DeviceType::Collar,
        ];
        GROUP.into_iter().cycle()
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Barn temperature.
    Temperature,
    /// Relative humidity.
    Humidity,
    /// Milk so far in this milking.
    Yield,
    /// Of the milk.
    Conductivity,
    /// Of the milk.
    FlowRate,
    /// Steps.
    Activity,
    /// Minutes of chewing in an hour.
    Rumination,
    /// Hours of lying in a day.
    Rest,
    /// Feed given.
    DispensedAmount,
    /// Feed left.
    HopperLevel,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 10] = [
        Self::Temperature,
        Self::Humidity,
        Self::Yield,
        Self::Conductivity,
        Self::FlowRate,
        Self::Activity,
        Self::Rumination,
        Self::Rest,
        Self::DispensedAmount,
        Self::HopperLevel,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Yield => "yield",
            Self::Conductivity => "conductivity",
            Self::FlowRate => "flow_rate",
            Self::Activity => "activity",
            Self::Rumination => "rumination",
            Self::Rest => "rest",
            Self::DispensedAmount => "dispensed_amount",
            Self::HopperLevel => "hopper_level",
        }
    }

    /// Its unit, as UCUM writes it.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Temperature => "Cel",
            Self::Humidity | Self::HopperLevel => "%",
            Self::Yield | Self::DispensedAmount => "kg",
            Self::Conductivity => "mS/cm",
            Self::FlowRate => "kg/min",
            Self::Activity => "{steps}/h",
            Self::Rumination => "min/h",
            Self::Rest => "h/d",
        }
    }

    /// Lowest and highest value of a device in order.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Temperature => (0.0, 45.0),
            Self::Humidity => (30.0, 95.0),
            Self::Yield => (0.0, 15.0),
            Self::Conductivity => (4.0, 8.0),
            Self::FlowRate => (0.5, 3.0),
            Self::Activity => (0.0, 400.0),
            Self::Rumination => (0.0, 60.0),
            Self::Rest => (0.0, 14.0),
            Self::DispensedAmount => (0.0, 5.0),
            Self::HopperLevel => (0.0, 100.0),
        }
    }

    /// What a broken device reports, for the metrics whose range the server checks.
    pub fn nonsense(self) -> Option<f64> {
        match self {
            // A sensor whose wire is broken.
            Self::Temperature => Some(-127.0),
            // A counter of 16 bits that never started.
            Self::Activity => Some(65_535.0),
            Self::Yield => Some(-1.0),
            _ => None,
        }
    }

    /// Steps of its display in one unit: 10 shows one decimal.
    pub(super) fn steps(self) -> f64 {
        match self {
            Self::Activity | Self::Rumination => 1.0,
            Self::Temperature | Self::Humidity | Self::Rest | Self::HopperLevel => 10.0,
            Self::Yield | Self::Conductivity | Self::FlowRate | Self::DispensedAmount => 100.0,
        }
    }
}
