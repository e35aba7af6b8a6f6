//! The plots of a report, as SVG that a page holds inline.
//!
//! Colours are Okabe and Ito's, which people with any kind of colour blindness tell apart; a target that varies another
//! one has a dashed line and another marker as well. Text and axes have no colour of their own: the page gives them one
//! that is readable on its background. Legends are HTML beside the plot, because SVG cannot measure its text.

mod chart;
mod cost;
mod latency;
mod memory;
mod scaling;

use anyhow::Result;
use plotters::style::RGBColor;

use super::figures::Figures;
use crate::record::{Report, Store, Target};

/// One plot with what stands around it.
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// The drawing.
    pub svg: String,
    /// What its colours mean.
    pub legend: Vec<Key>,
}

/// One entry of a legend.
pub struct Key {
    /// What it is.
    pub name: String,
    /// How it is drawn.
    pub style: Style,
    /// As what.
    pub shape: Shape,
}

/// What a legend shows beside a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A line with markers.
    Marked,
    /// A line.
    Line,
    /// A filled area.
    Area,
}

/// How a target is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Red, green, blue.
    pub colour: RGBColor,
    /// A dashed line with a triangle as marker, in place of a line with a circle.
    pub dashed: bool,
}

/// Every plot for which there are figures.
///
/// # Errors
///
/// Fails when a drawing does, which a file's content cannot bring about.
pub fn all(report: &Report, figures: &[Figures], images: u32) -> Result<Vec<Plot>> {
    let stores = [Store::Minio, Store::Embedded, Store::Given, Store::Sink];
    let present: Vec<Store> =
        stores.into_iter().filter(|store| figures.iter().any(|row| row.store == *store)).collect();
    let mut plots = Vec::new();
    for store in present {
        let rows: Vec<&Figures> = figures.iter().filter(|row| row.store == store).collect();
        plots.extend(scaling::makespan(store, &rows)?);
        plots.extend(scaling::throughput(store, &rows)?);
        // On a store of which the usual number was not asked, the largest that it was asked is looked at.
        let most = rows.iter().map(|row| row.images).max().unwrap_or_default();
        let at = if rows.iter().any(|row| row.images == images) { images } else { most };
        plots.extend(latency::percentiles(store, &rows, at)?);
        plots.extend(memory::all(report, store)?);
        plots.extend(cost::cpu(store, &rows, at)?);
    }
    Ok(plots)
}

/// How a target is drawn, the same in all plots.
pub fn style(target: Target) -> Style {
    const BLUE: RGBColor = RGBColor(0, 114, 178);
    const SKY: RGBColor = RGBColor(86, 180, 233);
    const VERMILION: RGBColor = RGBColor(213, 94, 0);
    const ORANGE: RGBColor = RGBColor(230, 159, 0);
    const GREEN: RGBColor = RGBColor(0, 158, 115);
    const PURPLE: RGBColor = RGBColor(204, 121, 167);
    const GREY: RGBColor = RGBColor(128, 128, 128);
    let (colour, dashed) = match target {
        Target::V1 => (BLUE, false),
        Target::V1Stream => (SKY, true),
        Target::V2Post => (VERMILION, false),
        Target::V2Put => (ORANGE, false),
        Target::V2Unlinked => (VERMILION, true),
        Target::NodeV1 => (PURPLE, false),
        Target::NodeV2 => (PURPLE, true),
        Target::Nginx => (GREEN, false),
        Target::Nginx128k => (GREEN, true),
        Target::Direct => (GREY, false),
    };
    Style { colour, dashed }
}
