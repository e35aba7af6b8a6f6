//! Virtual-host addressing: the host `<bucket>.localhost`, at any port, names the bucket, and every other host leaves that to the path.
//!
//! `s3s` has parsers of its own, which take a host that they do not know for a bucket: a relay in front of the store has such a host.

use hyper::HeaderMap;
use hyper::header::HOST;
use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// The domain below which buckets are hosts. Its names are this machine's (RFC 6761, 6.3), though not every resolver knows.
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
