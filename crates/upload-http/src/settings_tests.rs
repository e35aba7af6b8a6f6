use upload_domain::Timing;

use super::*;

#[derive(Debug, Parser)]
struct Settings {
    #[command(flatten)]
    http: HttpSettings,
}

const RIGHT: [&str; 8] = [
    "--public-api-url",
    "https://api.example.org/v1/",
    "--jwt-issuer",
    "issuer",
    "--jwt-audience",
    "audience",
    "--jwt-secret",
    "01234567890123456789012345678901",
];

fn read(changed: &[&str]) -> Result<HttpSettings, SettingsError> {
    let mut arguments: Vec<&str> = vec!["server"];
    // A flag that is given again would be an error of its own: the changed one takes the right one's place.
    for pair in RIGHT.chunks(2).filter(|pair| !changed.contains(&pair[0])) {
        arguments.extend(pair);
    }
    arguments.extend(changed.iter().filter(|argument| **argument != "unset"));
    let settings = parse::<Settings>(arguments.into_iter().map(OsString::from))?;
    settings.http.check()?;
    Ok(settings.http)
}

#[test]
fn right_values_are_taken_and_normalised() {
    let read = read(&[
        "--cors-origins",
        "https://app.example.org,http://localhost:3000/",
        "--trusted-proxies",
        "::1,10.0.0.0/8",
    ]);
    let Ok(settings) = read else { panic!("{read:?}") };
    assert_eq!(settings.public_api_url.as_str(), "https://api.example.org/v1");
    assert_eq!(settings.cors_origins, ["https://app.example.org", "http://localhost:3000"]);
    assert_eq!(settings.trusted_proxies.len(), 2);
    assert_eq!(settings.limits(), ImageLimits::default());
    assert_eq!(settings.timing.checked(), Ok(Timing::default()));
}

#[test]
fn a_wrong_value_names_the_variable_and_what_would_be_right() {
    let table: [(&[&str], &[&str]); 20] = [
        (&["--public-api-url", "api.example.org"], &["PUBLIC_API_URL", "https://"]),
        (&["--public-api-url", "https://api.example.org/?a=b"], &["PUBLIC_API_URL", "without user, query"]),
        (&["--max-image-bytes", "20MB"], &["MAX_IMAGE_BYTES", "20MB", "it must be a whole number"]),
        (&["--max-image-bytes", "99999999999999999999"], &["MAX_IMAGE_BYTES", "it is too large"]),
        (&["--max-bytes-per-day", "20971519"], &["MAX_BYTES_PER_DAY", "must be 0, or at least MAX_IMAGE_BYTES"]),
        (&["--max-image-bytes", "1", "--max-bytes-per-day", "65535"], &["MAX_BYTES_PER_DAY", "and 65536"]),
        (&["--max-image-bytes", "0"], &["MAX_IMAGE_BYTES", "1.."]),
        (&["--links-active", "0"], &["LINKS_ACTIVE", "1..=4096"]),
        (&["--form-ttl", "1.5"], &["FORM_TTL", "1.5", "it must be a whole number"]),
        (&["--pending-ttl", "500"], &["PENDING_TTL", "must be longer"]),
        (&["--cors-origins", "app.example.org"], &["CORS_ORIGINS", "a scheme, a host"]),
        (&["--cors-origins", "https://app.example.org/path"], &["CORS_ORIGINS", "a scheme, a host"]),
        (&["--trusted-proxies", "10.0.0.0/33"], &["TRUSTED_PROXIES", "network"]),
        (&["--jwt-algorithm", "none"], &["JWT_ALGORITHM", "HS256, RS256, ES256, EdDSA"]),
        (&["--jwt-secret", "short"], &["JWT_SECRET", "at least 32"]),
        (&["--jwt-algorithm", "ES256"], &["JWT_PUBLIC_KEY", "PEM"]),
        (&["--jwt-issuer", ""], &["JWT_ISSUER", "empty"]),
        (&["--log-format", "xml"], &["LOG_FORMAT", "json, human"]),
        (&["--log-level", "loud"], &["LOG_LEVEL", "error, warn, info, debug, trace"]),
        (&["--http-workers", "0"], &["HTTP_WORKERS", "1..=512"]),
    ];
    for (changed, expected) in table {
        let error = read(changed).map(|_settings| ()).unwrap_err_or_default();
        for part in expected {
            assert!(error.contains(part), "{changed:?}: `{error}` lacks `{part}`");
        }
        assert!(!error.contains('\n'), "{changed:?}: one sentence, not `{error}`");
    }
}

#[test]
fn a_secret_is_never_repeated() {
    let error = read(&["--jwt-secret", "too-short-secret"]).map(|_settings| ()).unwrap_err_or_default();
    assert!(!error.contains("too-short-secret"), "{error}");
    let settings = read(&[]);
    assert!(!format!("{settings:?}").contains("0123456789"), "{settings:?}");
}

trait ErrorText {
    fn unwrap_err_or_default(self) -> String;
}

impl ErrorText for Result<(), SettingsError> {
    fn unwrap_err_or_default(self) -> String {
        self.err().map(|error| error.to_string()).unwrap_or_default()
    }
}
