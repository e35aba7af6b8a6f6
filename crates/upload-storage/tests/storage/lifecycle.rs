//! A lifecycle rule that no program of ours sets.

use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region},
    types::{
        BucketLifecycleConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, NoncurrentVersionExpiration,
    },
};
use secrecy::ExposeSecret as _;
use upload_storage::StorageSettings;

/// Makes the bucket remove old versions under the prefix after a day, and returns the rule's id.
pub async fn expire_old_versions(admin: &StorageSettings, prefix: &str) -> &'static str {
    const ID: &str = "old-versions";
    let secret = |text: &secrecy::SecretString| text.expose_secret().to_owned();
    let (id, key) = (admin.access_key_id.clone().unwrap(), admin.secret_access_key.as_ref().map(secret).unwrap());
    let credentials = Credentials::new(id, key, admin.session_token.as_ref().map(secret), None, "test");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(admin.endpoint.as_str())
        .region(Region::new(admin.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .build();
    let rule = LifecycleRule::builder()
        .id(ID)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(1).build())
        .build()
        .unwrap();
    let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
    let put = Client::from_conf(config).put_bucket_lifecycle_configuration().bucket(&admin.bucket);
    put.lifecycle_configuration(rules).send().await.unwrap();
    ID
}
