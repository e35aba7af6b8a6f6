//! Makespan and throughput against the number of images at once, with a lane above for what failed.

use anyhow::Result;

use super::{
    Key, Plot, Shape, Style,
    chart::{self, Area, Axis, HEIGHT},
    style,
};
use crate::{
    record::{Store, Target},
    report::{
        figures::Figures,
        spread::{Spread, grouped, percent},
        targets::{self, describe},
    },
};

/// Height of one target's line in the lane of failures.
const LANE: u32 = 46;

/// Seconds until the last answer; both axes logarithmic.
pub(super) fn makespan(store: Store, rows: &[&Figures]) -> Result<Option<Plot>> {
    let values = rows.iter().filter_map(|row| row.makespan_s).flat_map(|spread| [spread.least, spread.most]);
    let Some(range) = Spread::of(values.filter(|value| *value > 0.0)) else { return Ok(None) };
    let vertical = Axis::log("makespan, s", range.least / 1.5, range.most * 1.5);
    let caption = "Median of the finished rounds; both axes are logarithmic, and thin bars reach from the fastest \
        round to the slowest. Hollow markers are not whole, and the lanes above say why: a round hung or died, or \
        only so many percent of the images succeeded in the worst round.";
    against_images(store, rows, "Makespan", caption, &vertical, |row| row.makespan_s)
}

/// Successful images per second.
pub(super) fn throughput(store: Store, rows: &[&Figures]) -> Result<Option<Plot>> {
    let Some(range) = Spread::of(rows.iter().filter_map(|row| Some(row.images_per_s?.most))) else { return Ok(None) };
    let vertical = Axis::linear("images per second", 0.0, range.most * 1.08);
    let caption = "Successful images per second, median of the finished rounds. The bare client (direct) is the \
        ceiling: more than the store takes from it, no server can hand on.";
    against_images(store, rows, "Throughput", caption, &vertical, |row| row.images_per_s)
}

fn against_images(
    store: Store,
    rows: &[&Figures],
    title: &str,
    caption: &str,
    vertical: &Axis,
    value: fn(&Figures) -> Option<Spread>,
) -> Result<Option<Plot>> {
    let mut counts: Vec<u32> = rows.iter().map(|row| row.images).collect();
    counts.sort_unstable();
    counts.dedup();
    // One number of images makes no curve.
    let (Some(least), Some(most), true) = (counts.first(), counts.last(), counts.len() > 1) else { return Ok(None) };
    let axis = |title: &str, name: fn(u64) -> String| {
        let ticks = counts.iter().map(|images| (f64::from(*images), name((*images).into()))).collect();
        Axis::log(title, f64::from(*least) / 1.15, f64::from(*most) * 1.15).named(ticks)
    };
    let present = |target: &Target| rows.iter().any(|row| row.target == *target);
    let shown: Vec<Target> = targets::ALL.into_iter().filter(present).collect();
    let failing: Vec<Target> =
        shown.iter().copied().filter(|target| rows.iter().any(|row| row.target == *target && row.stops())).collect();
    let lanes = u32::try_from(failing.len())? * LANE + if failing.is_empty() { 0 } else { 18 };
    let svg = chart::svg(HEIGHT + lanes, |area| {
        let (top, below) = area.split_vertically(lanes);
        if !failing.is_empty() {
            // The axis below names the numbers of images.
            draw_failures(&top, &axis("", |_images| String::new()), rows, &failing)?;
        }
        let horizontal = axis("images released at once", grouped);
        let mut chart = chart::chart(&below, &horizontal, vertical)?;
        for target in &shown {
            let mut points = Vec::new();
            for row in rows.iter().filter(|row| row.target == *target) {
                let Some(spread) = value(row) else { continue };
                let x = row.images.into();
                let point = (x, spread.median);
                let thin = Style { colour: style(*target).colour, dashed: false };
                chart::line(&mut chart, vec![(x, spread.least), (x, spread.most)], thin)?;
                chart::marker(&mut chart, point, style(*target), row.is_whole())?;
                points.push(point);
            }
            chart::line(&mut chart, points, style(*target))?;
        }
        Ok(())
    })?;
    let legend = shown
        .into_iter()
        .map(|target| Key { name: describe(target).name.to_owned(), style: style(target), shape: Shape::Marked })
        .collect();
    let title = format!("{title} against images at once, on {}", targets::store(store));
    Ok(Some(Plot { title, caption: caption.to_owned(), svg, legend }))
}

/// A line for each target that failed, with a cross at each number of images where it did.
fn draw_failures(area: &Area, horizontal: &Axis, rows: &[&Figures], failing: &[Target]) -> Result<()> {
    let names: Vec<(f64, String)> = failing
        .iter()
        .enumerate()
        .map(|(index, target)| ((failing.len() - index) as f64 - 0.5, targets::name(*target).to_owned()))
        .collect();
    let vertical = Axis::linear("", 0.0, failing.len() as f64).named(names.clone());
    let mut chart = chart::chart(area, horizontal, &vertical)?;
    for (target, (height, _name)) in failing.iter().zip(names) {
        for row in rows.iter().filter(|row| row.target == *target && row.stops()) {
            let point = (row.images.into(), height);
            chart::cross(&mut chart, point, style(*target))?;
            chart::label_below(&mut chart, point, &what_failed(row))?;
        }
    }
    Ok(())
}

/// A short word, since the numbers of images are close to each other.
fn what_failed(row: &Figures) -> String {
    let unfinished = row.unfinished.iter().find(|round| round.how != crate::report::figures::VOID);
    match (unfinished, row.success_percent) {
        (Some(round), _) => round.how.to_owned(),
        (None, Some(success)) => format!("{} %", percent(success.least)),
        (None, None) => String::new(),
    }
}
