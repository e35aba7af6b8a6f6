//! Latencies in a report: an HdrHistogram of microseconds, in its V2 encoding, as base64.
//!
//! A report keeps the whole histogram, not only percentiles, so that rounds can be added up. Other implementations of HdrHistogram can
//! read the encoding.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// Digits of a recorded value: it is off by a thousandth at most.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of microseconds.
///
/// # Errors
/// Only if the number of digits is out of range.
pub fn histogram() -> Result<Histogram<u64>> {
    Histogram::new(SIGNIFICANT_DIGITS).context("cannot create a histogram")
}

/// Encodes a histogram.
///
/// # Errors
/// If it is too large for the encoding.
pub fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).context("cannot encode the histogram")?;
    Ok(STANDARD.encode(bytes))
}

/// Decodes a histogram. An empty text is an empty histogram.
///
/// # Errors
/// If the text is not base64 or not a histogram.
pub fn decode(text: &str) -> Result<Histogram<u64>> {
    if text.is_empty() {
        return histogram();
    }
    let bytes = STANDARD.decode(text).context("the histogram is not base64")?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).context("cannot read the histogram")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded_value_by_value() -> Result<()> {
        let mut recorded = histogram()?;
        for value in [1, 900, 25_900_000, 9_100_000, 9_100_000] {
            recorded.record(value)?;
        }
        let text = encode(&recorded)?;
        let read = decode(&text)?;
        assert_eq!(read.len(), 5);
        assert_eq!(read.value_at_quantile(0.5), recorded.value_at_quantile(0.5));
        assert_eq!(read.max(), recorded.max());
        assert_eq!(encode(&read)?, text);
        Ok(())
    }

    #[test]
    fn an_empty_text_is_an_empty_histogram_and_any_other_wrong_one_is_refused() -> Result<()> {
        assert_eq!(decode("")?.len(), 0);
        assert_eq!(decode(&encode(&histogram()?)?)?.len(), 0);
        assert!(decode("not base64!").is_err());
        assert!(decode("AAAA").is_err());
        Ok(())
    }
}
