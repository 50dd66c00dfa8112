//! Rows by name: what a SELECT asks for is named once, each column with its type and its text, and
//! both the statement's list and the places in its rows come of that.
//!
//! The places are constants. To have sqlx look a name up would be to hash it for every value, and a
//! batch of heartbeats reads tens of thousands. Where a statement gives a single row, that is cheap
//! enough, and it is read by name as it stands.

/// Where a column is among these. One that is not there does not compile.
pub(super) const fn place_of(names: &[&str], name: &str) -> usize {
    let mut place = 0;
    while place < names.len() {
        if is_same(names[place].as_bytes(), name.as_bytes()) {
            return place;
        }
        place += 1;
    }
    panic!("there is no such column")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// A row of a SELECT, and a macro with the list of its columns.
///
/// `row! { struct Row, columns! { id: i64 = "t.id", _ = "NULL" } }` makes a type with a method `id`
/// for each column that has a name, and `columns!()`, which is `t.id AS id, NULL`. The list comes
/// first in its SELECT, or right after the columns of `struct Row after (place: i64)`, which each
/// SELECT says for itself. Where several kinds of rows come of one UNION ALL, each kind has a list
/// of as many columns, and a column that is nothing of that kind has no name.
macro_rules! row {
    (
        $(#[$about:meta])*
        struct $Row:ident $(after ($($before:ident $(: $before_type:ty)?),+))?, $list:ident! {
            $(_)? $($first:ident: $first_type:ty)? = $first_text:literal
            $(, $(_)? $($name:ident: $type:ty)? = $text:literal)* $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy)]
        struct $Row<'r>(&'r sqlx::postgres::PgRow);

        macro_rules! $list {
            () => {
                concat!(
                    $first_text $(, " AS ", stringify!($first))?
                    $(, ", ", $text $(, " AS ", stringify!($name))?)*
                )
            };
        }

        const _: () = {
            const NAMES: &[&str] = &[
                $($(stringify!($before),)+)?
                concat!("" $(, stringify!($first))?),
                $(concat!("" $(, stringify!($name))?),)*
            ];

            // A column may have a name that begins with `from`.
            #[allow(clippy::wrong_self_convention)]
            impl<'r> $Row<'r> {
                fn of(row: &'r sqlx::postgres::PgRow) -> $Row<'r> {
                    // What comes first tells whether the list is where it has to be. Of a UNION,
                    // the columns have the names of the first kind.
                    debug_assert!(
                        NAMES[0].is_empty() || sqlx::Column::name(sqlx::Row::column(row, 0)) == NAMES[0],
                        "the list of columns does not come first"
                    );
                    $Row(row)
                }

                $($($(
                    fn $before(self) -> Result<$before_type, sqlx::Error> {
                        const PLACE: usize = $crate::store::rows::place_of(NAMES, stringify!($before));
                        sqlx::Row::try_get(self.0, PLACE)
                    }
                )?)+)?
                $(
                    fn $first(self) -> Result<$first_type, sqlx::Error> {
                        const PLACE: usize = $crate::store::rows::place_of(NAMES, stringify!($first));
                        sqlx::Row::try_get(self.0, PLACE)
                    }
                )?
                $($(
                    fn $name(self) -> Result<$type, sqlx::Error> {
                        const PLACE: usize = $crate::store::rows::place_of(NAMES, stringify!($name));
                        sqlx::Row::try_get(self.0, PLACE)
                    }
                )?)*
            }
        };
    };
}
pub(super) use row;

// Of the example only the list is looked at.
#[cfg(test)]
#[allow(dead_code)]
mod tests {
    row! {
        /// A row with a column that is nothing to it.
        struct Example after (place: i64), example_columns! {
            id: i64 = "t.id",
            _ = "NULL",
            name: &'r str = "lower(t.name)",
        }
    }

    #[test]
    fn a_list_has_the_text_and_the_name_of_each_column() {
        assert_eq!(example_columns!(), "t.id AS id, NULL, lower(t.name) AS name");
    }

    #[test]
    fn a_column_is_where_its_list_has_it() {
        const NAMES: &[&str] = &["place", "id", "", "name"];
        assert_eq!(["place", "id", "name"].map(|name| super::place_of(NAMES, name)), [0, 1, 3]);
    }

    #[test]
    #[should_panic = "there is no such column"]
    fn a_column_that_is_not_there_has_no_place() {
        super::place_of(&["id", "names"], "name");
    }
}
