//! The receiver in `docs/guarantees.md` does what is said there.

use sqlx::AssertSqlSafe;

use crate::support::helpers::TestDatabase;

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");

#[tokio::test]
async fn the_receiver_of_the_guarantees_refuses_an_older_term() {
    let (_, block) = GUARANTEES.split_once("<!-- run by tests/faults/fencing.rs -->\n```sql\n").expect("it is marked");
    let (receiver, _) = block.split_once("```").expect("it ends");
    let database = TestDatabase::empty().await;
    let mut connection = database.connect().await;
    sqlx::raw_sql(AssertSqlSafe(receiver)).execute(&mut connection).await.expect("it runs");
    let mut accepted = Vec::new();
    for (term, value) in [(7_i64, 1.0), (7, 2.0), (8, 3.0), (7, 4.0), (8, 5.0)] {
        let receive = sqlx::query_scalar("SELECT receive('pump', $1, clock_timestamp(), $2)").bind(term).bind(value);
        let taken: bool = receive.fetch_one(&mut connection).await.expect("it answers");
        accepted.push(taken);
    }
    assert_eq!(accepted, [true, true, true, false, true]);
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM readings").fetch_one(&mut connection).await.expect("it is there");
    assert_eq!(stored, 4);
}
