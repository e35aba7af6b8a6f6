//! Latency by percentile, on HdrHistogram's axis: each step to the right leaves a tenth as many images.

use anyhow::Result;

use super::{
    Key, Plot, Shape,
    chart::{self, Axis, HEIGHT},
    style,
};
use crate::{
    record::Store,
    report::{
        figures::{Figures, Latency},
        spread::{Spread, grouped, percent},
        targets::{self, describe},
    },
};

/// Points of a curve in each factor of ten.
const POINTS: i32 = 48;

/// The latencies of all targets with so many images at once.
pub(super) fn percentiles(store: Store, rows: &[&Figures], images: u32) -> Result<Option<Plot>> {
    let shown: Vec<(&Figures, &Latency)> = targets::ALL
        .into_iter()
        .filter_map(|target| rows.iter().find(|row| (row.target, row.images) == (target, images)))
        .filter_map(|row| Some((*row, row.latency.as_ref()?)))
        .collect();
    let slowest = Spread::of(shown.iter().map(|(_row, latency)| latency.max_s));
    let most = shown.iter().map(|(_row, latency)| latency.histogram.len()).max();
    // Of fewer than ten images there are no percentiles.
    let (Some(slowest), Some(most @ 10..)) = (slowest, most) else { return Ok(None) };
    let names = [
        (1.0, "0 %"),
        (2.0, "50 %"),
        (4.0, "75 %"),
        (10.0, "90 %"),
        (100.0, "99 %"),
        (1e3, "99.9 %"),
        (1e4, "99.99 %"),
    ];
    let last = most as f64;
    let ticks = names
        .into_iter()
        .filter(|(value, _name)| *value <= last)
        .map(|(value, name)| (value, name.to_owned()))
        .collect();
    let horizontal = Axis::log("images that took no longer", 1.0, last).named(ticks);
    let vertical = Axis::linear("latency, s", 0.0, slowest.most * 1.05);
    let svg = chart::svg(HEIGHT, |area| {
        let mut chart = chart::chart(area, &horizontal, &vertical)?;
        for (row, latency) in &shown {
            chart::line(&mut chart, curve(latency), style(row.target))?;
        }
        Ok(())
    })?;
    let legend = shown.iter().map(|(row, _latency)| {
        let success = row.success_percent.map(|success| percent(success.median)).unwrap_or_default();
        Key {
            name: format!("{}, {success} % succeeded", describe(row.target).name),
            style: style(row.target),
            shape: Shape::Line,
        }
    });
    Ok(Some(Plot {
        title: format!(
            "Latency by percentile, {} images at once, on {}",
            grouped(images.into()),
            targets::store(store)
        ),
        caption: "From the release of all images to each one's last answer, over all finished rounds together; only \
            images that succeeded have a latency."
            .to_owned(),
        legend: legend.collect(),
        svg,
    }))
}

/// Points of 1/(1−p) and the latency in seconds that the share p did not exceed, up to the slowest image.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    let last = latency.histogram.len() as f64;
    let inverses =
        (0..).map(|index| 10_f64.powf(f64::from(index) / f64::from(POINTS))).take_while(|inverse| *inverse < last);
    let seconds = |quantile: f64| {
        let microseconds = latency.histogram.value_at_quantile(quantile).min(latency.histogram.max());
        microseconds as f64 / 1e6
    };
    inverses.map(|inverse| (inverse, seconds(1.0 - 1.0 / inverse))).chain([(last, latency.max_s)]).collect()
}
