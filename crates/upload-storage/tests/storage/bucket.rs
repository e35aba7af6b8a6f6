//! Preparing a bucket. Stores differ in how much of it they support.

use chrono::{TimeDelta, Utc};
use upload_storage::bucket::{self, Outcome};

use crate::stand::stand_without_bucket;

#[tokio::test]
async fn a_bucket_is_created_once_and_removed_with_everything_in_it() {
    let stand = stand_without_bucket(|_settings| {}).await;
    assert!(!bucket::look(&stand.admin).await.unwrap().exists);
    bucket::empty_and_remove(&stand.admin).await.unwrap();
    assert_eq!(bucket::create(&stand.admin).await.unwrap(), Outcome::Done);
    assert!(bucket::look(&stand.admin).await.unwrap().exists);
    // AWS's us-east-1 answers 200 to its owner, as if the bucket were new.
    assert!(matches!(bucket::create(&stand.admin).await.unwrap(), Outcome::AlreadyThere | Outcome::Done));
    stand.admin.put("incoming/1", "image/png", "x".into()).await.unwrap();
    bucket::empty_and_remove(&stand.admin).await.unwrap();
    assert!(!bucket::look(&stand.admin).await.unwrap().exists);
}

#[tokio::test]
async fn a_look_tells_the_time_by_the_stores_clock_also_where_the_bucket_is_missing() {
    let stand = stand_without_bucket(|_settings| {}).await;
    for exists in [false, true] {
        let before = Utc::now();
        let look = bucket::look(&stand.admin).await.unwrap();
        let after = Utc::now();
        assert_eq!(look.exists, exists);
        // A Date header has whole seconds, rounded down, and some stores cache it for a second.
        let date = look.date.unwrap();
        assert!(date > before - TimeDelta::seconds(3) && date <= after, "{before} {date} {after}");
        bucket::create(&stand.admin).await.unwrap();
    }
}

#[tokio::test]
async fn cors_and_lifecycle_are_set_once_or_said_to_be_missing() {
    let stand = crate::stand::stand().await;
    let origins = ["https://app.example".to_owned()];
    let first = bucket::set_cors(&stand.admin, &origins).await.unwrap();
    let second = bucket::set_cors(&stand.admin, &origins).await.unwrap();
    assert!(is_set_once(&first, &second), "{first:?}, {second:?}");
    let first = bucket::set_lifecycle(&stand.admin).await.unwrap();
    let second = bucket::set_lifecycle(&stand.admin).await.unwrap();
    assert!(is_set_once(&first, &second), "{first:?}, {second:?}");
}

fn is_set_once(first: &Outcome, second: &Outcome) -> bool {
    match first {
        Outcome::Done => *second == Outcome::AlreadyThere,
        Outcome::NotSupported(_) => second == first,
        Outcome::AlreadyThere => false,
    }
}
