//! Plots over time: lines in an SVG that stretches, with the axes in text around it.

use adjutant_core::time::{Span, Timestamp};
use maud::{Markup, html};

use crate::format;

/// The width of the drawing, in its own units.
const WIDTH: f64 = 600.0;
/// The height.
const HEIGHT: f64 = 120.0;

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is.
    pub name: &'static str,
    /// A value for each minute; none where nothing was measured.
    pub values: Vec<Option<f64>>,
}

impl Series {
    /// The value of the last whole minute: the one that runs has not had all of its own yet.
    fn now(&self) -> Option<f64> {
        self.values.iter().rev().nth(1).copied().flatten()
    }
}

/// What the values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// How many.
    Count,
    /// Milliseconds.
    Millis,
    /// Dollars.
    Dollars,
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Self::Count if value >= 10_000.0 => format!("{:.1} k", value / 1_000.0),
            Self::Count => format!("{value:.0}"),
            Self::Millis if value >= 120_000.0 => format!("{:.0} min", value / 60_000.0),
            Self::Millis if value >= 1_000.0 => format!("{:.1} s", value / 1_000.0),
            Self::Millis if value <= 0.0 => "0".to_owned(),
            Self::Millis => format!("{value:.0} ms"),
            Self::Dollars if value <= 0.0 => "$0".to_owned(),
            Self::Dollars if value < 1.0 => format!("${value:.4}"),
            Self::Dollars => format!("${value:.2}"),
        }
    }
}

/// A plot: one value a minute, up to the one that runs.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// What the values are.
    pub unit: Unit,
    /// The last minute.
    pub end: Timestamp,
    /// The lines, all of the same length; at most four are told apart by colour.
    pub series: Vec<Series>,
}

impl Plot {
    /// The figure.
    pub fn show(&self) -> Markup {
        let top = ceiling(self.values().fold(0.0, f64::max));
        let minutes = self
            .series
            .iter()
            .map(|series| series.values.len())
            .max()
            .unwrap_or(0);
        let span = Span::from_secs(60).times(i64::try_from(minutes).unwrap_or(i64::MAX));
        html! {
            figure.plot {
                figcaption {
                    span.plot-title { (self.title) }
                    ul.legend {
                        @for (index, series) in self.series.iter().enumerate() {
                            li {
                                span class={ "key line-" (index) } aria-hidden="true" {}
                                (series.name) " "
                                b { (series.now().map_or_else(|| "–".to_owned(), |value| self.unit.write(value))) }
                            }
                        }
                    }
                }
                @if self.values().next().is_none() {
                    p.empty-plot { "Nothing in this time." }
                } @else {
                    div.plot-body {
                        div.plot-scale aria-hidden="true" { span { (self.unit.write(top)) } span { (self.unit.write(0.0)) } }
                        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(self.summary()) {
                            path.grid d={ "M0 0H" (WIDTH) "M0 " (HEIGHT / 2.0) "H" (WIDTH) "M0 " (HEIGHT) "H" (WIDTH) } {}
                            @for (index, series) in self.series.iter().enumerate() {
                                path class={ "line line-" (index) } d=(outline(&series.values, top)) {}
                            }
                        }
                    }
                    div.plot-times aria-hidden="true" {
                        span { (format::minute(self.end - span)) }
                        span { (format::minute(self.end - span.part(2))) }
                        span { (format::minute(self.end)) " UTC" }
                    }
                }
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.series
            .iter()
            .flat_map(|series| series.values.iter().flatten().copied())
    }

    /// In words, for those who do not see the lines.
    fn summary(&self) -> String {
        let parts: Vec<_> = self
            .series
            .iter()
            .map(|series| {
                let most = series.values.iter().flatten().copied().fold(0.0, f64::max);
                format!("{}: at most {}", series.name, self.unit.write(most))
            })
            .collect();
        format!("{}, by minute. {}", self.title, parts.join("; "))
    }
}

/// A round number that is not less.
fn ceiling(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let size = 10_f64.powf(most.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * size)
        .find(|round| *round >= most)
        .unwrap_or(most)
}

/// The path of a line, with gaps where nothing was measured; a value between gaps is a short dash.
fn outline(values: &[Option<f64>], top: f64) -> String {
    use std::fmt::Write as _;
    let step = WIDTH / f64::from(u32::try_from(values.len()).unwrap_or(u32::MAX)).max(1.0);
    let (mut path, mut is_drawing, mut x) = (String::new(), false, 0.0);
    for value in values {
        if let Some(value) = value {
            let y = HEIGHT - (value / top).clamp(0.0, 1.0) * HEIGHT;
            let command = if is_drawing { 'L' } else { 'M' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{command}{x:.1} {y:.1}H{:.1}", x + step);
        }
        is_drawing = value.is_some();
        x += step;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_of_the_scale_is_a_round_number() {
        for (most, top) in [
            (0.0, 1.0),
            (0.03, 0.05),
            (1.0, 1.0),
            (3.0, 5.0),
            (7.0, 10.0),
            (230.0, 500.0),
        ] {
            assert!((ceiling(most) - top).abs() < 1e-9, "{most}");
        }
    }

    #[test]
    fn a_line_has_gaps_where_nothing_was_measured() {
        let path = outline(&[Some(0.0), None, Some(5.0), Some(10.0)], 10.0);
        assert_eq!(path, "M0.0 120.0H150.0M300.0 60.0H450.0L450.0 0.0H600.0");
    }

    #[test]
    fn a_plot_says_in_words_what_it_draws() {
        let plot = |values| Plot {
            title: "Throughput",
            unit: Unit::Count,
            end: "2026-11-24T18:30:00Z".parse().unwrap(),
            series: vec![Series {
                name: "completed",
                values,
            }],
        };
        let text = plot(vec![Some(2.0), Some(4.0)]).show().into_string();
        assert!(
            text.contains("aria-label=\"Throughput, by minute. completed: at most 4\""),
            "{text}"
        );
        assert!(text.contains("18:28") && text.contains("18:30 UTC"));
        assert!(
            plot(vec![None, None])
                .show()
                .into_string()
                .contains("Nothing in this time.")
        );
    }
}
