//! A figure of several rounds (its median and its range, never an average), and how numbers are written.
//!
//! Numbers have three digits, because two rounds on one machine seldom agree on more.

/// The median of several rounds, and their range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle value; of an even number of values, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// `None` without a finite value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (lower, upper) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Self { median: f64::midpoint(*lower, *upper), least, most })
    }

    /// `2.05 (2.00–2.25)`; without the range where both ends read the same. `write` writes each number.
    pub fn text_by(&self, write: impl Fn(f64) -> String) -> String {
        let (median, least, most) = (write(self.median), write(self.least), write(self.most));
        if least == most { median } else { format!("{median} ({least}–{most})") }
    }
}

/// Three digits: `0.0123`, `2.05`, `25.9`, `1240`. Never in scientific notation.
pub fn number(value: f64) -> String {
    let size = value.abs();
    // 9.996 rounds up to 10.0, not to 10.00.
    let decimals = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.995 => 2,
        _ if size >= 0.0995 || size == 0.0 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if size == 0.0 { "0".to_owned() } else { text }
}

/// Seconds: three digits, but no finer than a millisecond.
pub fn seconds(value: f64) -> String {
    if value.abs() < 0.0995 { format!("{value:.3}") } else { number(value) }
}

/// `100`, `98.5`, `13`: rounded down, so that 100 means all.
pub fn percent(value: f64) -> String {
    // 100 times 0.29 is a little less than 29; the margin makes up for it.
    let tenths = (value * 10.0 + 1e-6).floor() / 10.0;
    if tenths.fract() == 0.0 { format!("{tenths:.0}") } else { format!("{tenths:.1}") }
}

/// A whole number with commas: `5,000,000`.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal units: `5 MB`, `262 kB`.
pub fn bytes(value: f64) -> String {
    let (divisor, unit) = match value {
        _ if value >= 1e9 => (1e9, "GB"),
        _ if value >= 1e6 => (1e6, "MB"),
        _ if value >= 1e3 => (1e3, "kB"),
        _ => (1.0, "B"),
    };
    format!("{} {unit}", trimmed(value / divisor))
}

/// A rate in bits, as lines are sold: `2 Mbit/s`.
pub fn rate(bytes_per_second: u64) -> String {
    format!("{} Mbit/s", trimmed(bytes_per_second as f64 * 8.0 / 1e6))
}

/// Three digits without trailing zeros: `5`, `1.5`, `2.05`.
pub fn trimmed(value: f64) -> String {
    let text = number(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
