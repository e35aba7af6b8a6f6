//! Reads the domain's types from columns. The domain does not depend on Diesel, so each type goes through [`Stored`]. An id that is never
//! null comes from a plain UUID.

use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    pg::{Pg, PgValue},
    sql_types::{Binary, Int4, Int8, Nullable, Text, Uuid},
};
use upload_domain::{AttemptId, ImageFormat, ImagePath, LinkKind, Refusal, Role, Sha256Checksum, UserStatus};

/// A column's value on its way to a record: `#[diesel(deserialize_as = Stored<…>)]`. Public only because a record's derives show it;
/// its module is not.
#[derive(Debug, Clone, Copy, FromSqlRow)]
pub struct Stored<T>(T);

macro_rules! stored {
    ($($sql:ty, $raw:ty => { $($kept:ty: $convert:expr),+ $(,)? })+) => {$($(
        impl FromSql<$sql, Pg> for Stored<$kept> {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                let raw = <$raw as FromSql<$sql, Pg>>::from_sql(value)?;
                let convert: fn($raw) -> deserialize::Result<$kept> = $convert;
                convert(raw).map(Self)
            }
        }

        impl From<Stored<$kept>> for $kept {
            fn from(stored: Stored<$kept>) -> Self {
                stored.0
            }
        }

        impl FromSql<Nullable<$sql>, Pg> for Stored<Option<$kept>> {
            fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
                <Stored<$kept> as FromSql<$sql, Pg>>::from_sql(value).map(|stored| Self(Some(stored.0)))
            }

            fn from_nullable_sql(value: Option<PgValue<'_>>) -> deserialize::Result<Self> {
                match value {
                    Some(value) => <Self as FromSql<Nullable<$sql>, Pg>>::from_sql(value),
                    None => Ok(Self(None)),
                }
            }
        }

        impl From<Stored<Option<$kept>>> for Option<$kept> {
            fn from(stored: Stored<Option<$kept>>) -> Self {
                stored.0
            }
        }
    )+)+};
}

stored! {
    Uuid, uuid::Uuid => {
        AttemptId: |uuid| Ok(uuid.into()),
    }
    Text, String => {
        ImageFormat: |word| Ok(word.parse()?),
        ImagePath: |word| Ok(word.parse()?),
        LinkKind: |word| Ok(word.parse()?),
        Refusal: |word| Ok(word.parse()?),
        Role: |word| Ok(word.parse()?),
        UserStatus: |word| Ok(word.parse()?),
    }
    Binary, Vec<u8> => {
        Sha256Checksum: |bytes| Ok(Sha256Checksum::from(<[u8; 32]>::try_from(bytes.as_slice())?)),
    }
    Int4, i32 => {
        u32: |number| Ok(number.try_into()?),
    }
    Int8, i64 => {
        u64: |number| Ok(number.try_into()?),
    }
}

/// Role words as a bind for `= ANY(…)`.
pub(crate) fn words(roles: &'static [Role]) -> Vec<&'static str> {
    roles.iter().copied().map(Role::as_str).collect()
}

/// A length in bytes as a `bigint`; no file is longer.
pub(crate) fn bigint(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Pixels as an `integer`; no image has more.
pub(crate) fn integer(pixels: u32) -> i32 {
    i32::try_from(pixels).unwrap_or(i32::MAX)
}
