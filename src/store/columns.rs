//! Types of columns of which a batch reads and writes thousands: a `timestamptz` as arbitration
//! counts time, without the detour by a calendar, and the place of a row in its table.

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use sqlx::decode::Decode;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgConnection, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, Postgres, types::Oid,
};
use sqlx::types::Type;

use crate::arbitration::Instant;

/// PostgreSQL counts from the beginning of 2000, we count from that of 1970: both in microseconds.
const EPOCH_OFFSET_US: i64 = 946_684_800_000_000;

/// Microseconds since 1970, in the database a `timestamptz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl From<Instant> for Micros {
    fn from(Instant(us): Instant) -> Micros {
        Micros(us)
    }
}

impl From<Micros> for Instant {
    fn from(Micros(us): Micros) -> Instant {
        Instant(us)
    }
}

impl Type<Postgres> for Micros {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Micros {
    fn array_type_info() -> PgTypeInfo {
        <DateTime<Utc> as PgHasArrayType>::array_type_info()
    }
}

impl Decode<'_, Postgres> for Micros {
    fn decode(value: PgValueRef<'_>) -> Result<Micros, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let since_2000 = i64::from_be_bytes(value.as_bytes()?.try_into()?);
                // Infinity is at the ends of the range; constraints keep it out of every table that
                // is read by this.
                Ok(Micros(since_2000.saturating_add(EPOCH_OFFSET_US)))
            }
            PgValueFormat::Text => Ok(Micros(<DateTime<Utc> as Decode<Postgres>>::decode(value)?.timestamp_micros())),
        }
    }
}

impl Encode<'_, Postgres> for Micros {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.saturating_sub(EPOCH_OFFSET_US).to_be_bytes());
        Ok(IsNull::No)
    }
}

/// Where a row lies in its table (`ctid`), as the database writes it: block and line. It is true
/// for the snapshot that it was read in, and for no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowPlace([u8; 6]);

#[cfg(test)]
impl RowPlace {
    /// That line of that block.
    pub fn of(block: u32, line: u16) -> RowPlace {
        let ([a, b, c, d], [e, f]) = (block.to_be_bytes(), line.to_be_bytes());
        RowPlace([a, b, c, d, e, f])
    }
}

/// The numbers of `tid` and `tid[]` among PostgreSQL's own types, the same in every database.
const TID: Oid = Oid(27);
const TID_ARRAY: Oid = Oid(1010);

impl Type<Postgres> for RowPlace {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TID)
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        found.oid() == Some(TID)
    }
}

impl PgHasArrayType for RowPlace {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TID_ARRAY)
    }
}

impl Decode<'_, Postgres> for RowPlace {
    fn decode(value: PgValueRef<'_>) -> Result<RowPlace, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(RowPlace(value.as_bytes()?.try_into()?)),
            PgValueFormat::Text => Err("a row's place is read in binary form only".into()),
        }
    }
}

impl Encode<'_, Postgres> for RowPlace {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

/// Has a new connection learn of the types that sqlx has no notion of.
///
/// Otherwise it asks for them when it first meets them, in between parsing a statement and running
/// it, by a message that makes the server forget a statement without a name.
pub(super) async fn learn_types(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // In a transaction, so that a pooler sends all of it to one server connection.
    let mut transaction = connection.begin().await?;
    // Types of arguments that are given by name are asked for before the statement is parsed.
    let learn = sqlx::query("SELECT $1::tid, $2::tid[]").persistent(false);
    learn.bind(None::<ByName>).bind(None::<Vec<ByName>>).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// A [`RowPlace`] of which only the type's name is known.
struct ByName;

const TID_NAME: &str = "tid";

impl Type<Postgres> for ByName {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(TID_NAME)
    }
}

impl PgHasArrayType for ByName {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of(TID_NAME)
    }
}

impl Encode<'_, Postgres> for ByName {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}
