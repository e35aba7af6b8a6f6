//! The bucket that receives a form. Its parts are checked once, here, so that no part can change the rest of the URL or the credential scope.

use crate::PolicyError;

/// How a URL names its bucket
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Addressing {
    /// `https://host/bucket`: works with every self-hosted store.
    #[default]
    Path,
    /// `https://bucket.host/`: AWS's own style. A bucket name with dots does not fit AWS's wildcard certificate.
    VirtualHost,
}

/// A bucket, and the address at which clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    name: String,
    region: String,
    url: String,
}

impl Bucket {
    /// Takes an endpoint such as `https://s3.eu-west-1.amazonaws.com` or `http://127.0.0.1:9000`, as **clients** see it.
    ///
    /// # Errors
    /// [`PolicyError::Endpoint`], [`PolicyError::BucketName`] or [`PolicyError::Region`], for a part that cannot stand in a URL or
    /// in the credential scope; also for an endpoint with a path under [`Addressing::VirtualHost`].
    pub fn new(endpoint: &str, addressing: Addressing, region: &str, name: &str) -> Result<Self, PolicyError> {
        let bad_endpoint = || PolicyError::Endpoint(endpoint.to_owned());
        let (scheme, rest) = endpoint.split_once("://").ok_or_else(bad_endpoint)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        let clean = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !"@?#\\\"<>{}|^`".contains(c));
        if !matches!(scheme, "http" | "https") || authority.is_empty() || !clean(authority) || !clean(path) {
            return Err(bad_endpoint());
        }
        if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(PolicyError::Region(region.to_owned()));
        }
        if !is_bucket_name(name, addressing) {
            return Err(PolicyError::BucketName(name.to_owned()));
        }
        let url = match addressing {
            Addressing::Path if path.is_empty() => format!("{scheme}://{authority}/{name}"),
            Addressing::Path => format!("{scheme}://{authority}/{path}/{name}"),
            Addressing::VirtualHost if path.is_empty() => format!("{scheme}://{name}.{authority}/"),
            Addressing::VirtualHost => return Err(bad_endpoint()),
        };
        Ok(Self { name: name.to_owned(), region: region.to_owned(), url })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The region that goes into the credential scope.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The bucket's own URL, to which forms are posted.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Path-style takes old names too (capitals, `_`, up to 255); a host name takes only what today's rules allow
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
fn is_bucket_name(name: &str, addressing: Addressing) -> bool {
    let (longest, allowed): (usize, fn(char) -> bool) = match addressing {
        Addressing::Path => (255, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
        Addressing::VirtualHost => (63, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c)),
    };
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    (3..=longest).contains(&name.len())
        && name.chars().all(allowed)
        && outer(name.chars().next())
        && outer(name.chars().next_back())
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: &str, addressing: Addressing) -> Result<String, PolicyError> {
        Bucket::new(endpoint, addressing, "eu-west-1", "pictures").map(|bucket| bucket.url)
    }

    #[test]
    fn path_style_and_virtual_host_urls() {
        for (endpoint, addressing, expected) in [
            ("http://127.0.0.1:9000", Addressing::Path, "http://127.0.0.1:9000/pictures"),
            ("http://127.0.0.1:9000/", Addressing::Path, "http://127.0.0.1:9000/pictures"),
            ("https://example.com/s3/", Addressing::Path, "https://example.com/s3/pictures"),
            ("http://[::1]:9000", Addressing::Path, "http://[::1]:9000/pictures"),
            ("https://s3.amazonaws.com", Addressing::VirtualHost, "https://pictures.s3.amazonaws.com/"),
            ("https://minio.example:9000/", Addressing::VirtualHost, "https://pictures.minio.example:9000/"),
        ] {
            assert_eq!(url(endpoint, addressing).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for endpoint in [
            "",
            "s3.amazonaws.com",
            "ftp://host",
            "https://",
            "https:///x",
            "https://user@host",
            "https://h?x",
            "https://h#x",
            "https://h h",
        ] {
            assert_eq!(url(endpoint, Addressing::Path), Err(PolicyError::Endpoint(endpoint.to_owned())));
        }
        assert!(matches!(url("https://host/path", Addressing::VirtualHost), Err(PolicyError::Endpoint(_))));
    }

    #[test]
    fn names_that_would_bend_the_url_or_the_scope_are_refused() {
        for name in ["", "ab", "a/b", "../x", "a..b", "-ab", "ab.", "a b", "bücket", "a?b", "a%2fb", &"a".repeat(256)]
        {
            let made = Bucket::new("https://h", Addressing::Path, "eu-west-1", name);
            assert_eq!(made, Err(PolicyError::BucketName(name.to_owned())));
        }
        for name in ["Old_Name", "under_score"] {
            assert!(Bucket::new("https://h", Addressing::Path, "eu-west-1", name).is_ok());
            assert!(Bucket::new("https://h", Addressing::VirtualHost, "eu-west-1", name).is_err());
        }
        for region in ["", "eu/west", "eu west", "é"] {
            let made = Bucket::new("https://h", Addressing::Path, region, "pictures");
            assert_eq!(made, Err(PolicyError::Region(region.to_owned())));
        }
    }
}
