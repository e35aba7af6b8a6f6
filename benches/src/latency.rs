//! Latencies as a report keeps them: an HdrHistogram of microseconds, in its V2 encoding, as base64.
//!
//! The whole histogram is kept and never its percentiles alone, so that rounds can be added up and a report made anew. The
//! encoding is that of the other implementations of HdrHistogram, which can therefore read it.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// Digits that a recorded value keeps: it is off by a thousandth at most.
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of microseconds, which grows with what is recorded.
///
/// # Errors
///
/// Fails only where the number of digits is out of the range that the histogram allows.
pub fn histogram() -> Result<Histogram<u64>> {
    Histogram::new(SIGNIFICANT_DIGITS).context("no histogram could be made")
}

/// The text that [`decode`] reads.
///
/// # Errors
///
/// Fails when the histogram is too large for its encoding.
pub fn encode(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).context("the histogram could not be encoded")?;
    Ok(STANDARD.encode(bytes))
}

/// The histogram that [`encode`] made a text of. An empty text is an empty histogram: that of a run without a success.
///
/// # Errors
///
/// Fails when the text is not base64, or what it holds is not a histogram.
pub fn decode(text: &str) -> Result<Histogram<u64>> {
    if text.is_empty() {
        return histogram();
    }
    let bytes = STANDARD.decode(text).context("the histogram is not base64")?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).context("the histogram cannot be read")
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
