//! CPU time of the servers for each GB, user and system stacked.

use anyhow::{Context as _, Result};
use plotters::{
    element::Rectangle,
    style::{Color as _, RGBColor},
};

use super::{
    Key, Plot, Shape, Style,
    chart::{self, Axis},
};
use crate::{
    record::Store,
    report::{
        figures::{Cost, Figures},
        spread::{grouped, number},
        targets,
    },
};

const USER: Style = Style { colour: RGBColor(0, 114, 178), dashed: false };
const SYSTEM: Style = Style { colour: RGBColor(230, 159, 0), dashed: false };

/// A bar for each target that has a server.
pub(super) fn cpu(store: Store, rows: &[&Figures], images: u32) -> Result<Option<Plot>> {
    let shown: Vec<(&Figures, &Cost)> = targets::ALL
        .into_iter()
        .filter_map(|target| rows.iter().find(|row| (row.target, row.images) == (target, images)))
        .filter_map(|row| Some((*row, row.server.as_ref()?)))
        .collect();
    let most =
        shown.iter().map(|(_row, cost)| cost.user_s_per_gb.median + cost.system_s_per_gb.median).fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(None);
    }
    let middle = |index: usize| (shown.len() - index) as f64 - 0.5;
    let names =
        shown.iter().enumerate().map(|(index, (row, _cost))| (middle(index), targets::name(row.target).to_owned()));
    let vertical = Axis::linear("", 0.0, shown.len() as f64).named(names.collect());
    // Room for the number behind the longest bar.
    let horizontal = Axis::linear("CPU-seconds of the server for each GB", 0.0, most * 1.1);
    let height = 80 + 42 * u32::try_from(shown.len())?;
    let svg = chart::svg(height, |area| {
        let mut chart = chart::chart(area, &horizontal, &vertical)?;
        for (index, (_row, cost)) in shown.iter().enumerate() {
            let (user, both) = (cost.user_s_per_gb.median, cost.user_s_per_gb.median + cost.system_s_per_gb.median);
            let (above, below) = (middle(index) + 0.3, middle(index) - 0.3);
            for (from, to, style) in [(0.0, user, USER), (user, both, SYSTEM)] {
                let bar = Rectangle::new([(from, above), (to, below)], style.colour.filled());
                chart.draw_series([bar]).context("a bar could not be drawn")?;
            }
            chart::label(&mut chart, (both, middle(index)), &number(both))?;
        }
        Ok(())
    })?;
    let key = |name: &str, style| Key { name: name.to_owned(), style, shape: Shape::Area };
    Ok(Some(Plot {
        title: format!(
            "CPU time of the servers, {} images at once, on {}",
            grouped(images.into()),
            targets::store(store)
        ),
        caption: "Medians of the finished rounds. A GB is 10⁹ bytes of images that succeeded; the store's own CPU \
            time is not in it."
            .to_owned(),
        svg,
        legend: vec![key("user", USER), key("system (kernel)", SYSTEM)],
    }))
}
