//! Virtual-host addressing: the host `<bucket>.localhost`, at any port, names the bucket. With every other host the path names it.
//!
//! `s3s` has its own parsers, but they take an unknown host for a bucket, and a relay in front of the store has such a host.

use hyper::HeaderMap;
use hyper::header::HOST;
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domain under which buckets are hosts. Its names mean this machine (RFC 6761, 6.3), but not every resolver knows that.
pub(super) const DOMAIN: &str = "localhost";

/// Hosts of buckets.
pub(super) struct BucketHosts;

impl S3Host for BucketHosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match bucket(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

/// The bucket that a request's host names.
pub(super) fn bucket_of(headers: &HeaderMap) -> Option<&str> {
    bucket(headers.get(HOST)?.to_str().ok()?)
}

fn bucket(host: &str) -> Option<&str> {
    let name = host.split(':').next()?;
    name.strip_suffix(DOMAIN)?.strip_suffix('.')
}
