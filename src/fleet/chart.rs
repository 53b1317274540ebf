//! Bars by week, as an SVG that takes its colours from the page, by the crate plotters: it knows how
//! to place ticks, and its SVG needs neither a script nor a font. Pure.

use jiff::civil::Date;
use plotters::prelude::*;

const WIDTH: u32 = 440;
const HEIGHT: u32 = 180;
/// Colours that stand for the page's own, which differ by day and by night.
const INKS: [(RGBColor, &str, &str); 3] = [
    (RGBColor(1, 1, 1), "#010101", "var(--ink)"),
    (RGBColor(2, 2, 2), "#020202", "var(--line)"),
    (RGBColor(3, 3, 3), "#030303", "var(--bar)"),
];

/// A bar for each week that has a value. `what` is read out in place of the picture, and is our own
/// text. `None` if nothing has a value, or it cannot be drawn.
pub fn draw_weeks(what: &'static str, weeks: &[(Date, Option<f64>)]) -> Option<String> {
    let highest = weeks.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
    if highest <= 0.0 {
        return None;
    }
    let mut svg = String::new();
    draw_bars(&mut svg, weeks, highest).ok()?;
    for (_, stand_in, ink) in INKS {
        svg = svg.replace(stand_in, ink);
    }
    Some(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{what}\" "), 1))
}

fn draw_bars(
    svg: &mut String,
    weeks: &[(Date, Option<f64>)],
    highest: f64,
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let [(ink, ..), (line, ..), (bar, ..)] = INKS;
    let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..weeks.len() as f64, 0.0..highest * 1.1)?;
    let text = ("sans-serif", 12).into_font().color(&ink);
    let name = |at: &f64| {
        let week = weeks.get(*at as usize);
        week.map(|(week, _)| week.strftime("%d %b").to_string()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(line)
        .axis_style(line)
        .x_labels(8)
        .x_label_formatter(&name)
        .y_labels(4)
        .label_style(text)
        .draw()?;
    chart.draw_series(weeks.iter().enumerate().filter_map(|(at, (_, value))| {
        let (left, right) = (at as f64 + 0.15, at as f64 + 0.85);
        value.map(|value| Rectangle::new([(left, 0.0), (right, value)], bar.filled()))
    }))?;
    area.present()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_week_in_the_colours_of_the_page() {
        let weeks = [("2026-11-09", Some(1.0)), ("2026-11-16", None), ("2026-11-23", Some(4.0))];
        let weeks = weeks.map(|(week, value)| (week.parse().expect("a date"), value));
        let svg = draw_weeks("deploys a week", &weeks).expect("a picture");
        assert!(svg.starts_with("<svg role=\"img\" aria-label=\"deploys a week\""), "{svg}");
        assert_eq!(svg.matches("fill=\"var(--bar)\"").count(), 2, "{svg}");
        assert!(!svg.contains("#0") && svg.contains("var(--ink)"), "{svg}");
        assert_eq!(draw_weeks("nothing", &[]), None);
    }
}
