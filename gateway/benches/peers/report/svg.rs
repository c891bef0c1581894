//! A table as a bar chart, for light and dark pages alike.

use std::fmt::Write as _;

use crate::table::Table;

const WIDTH: f64 = 760.0;
const LABELS: f64 = 230.0;
const NUMBERS: f64 = 90.0;
const BAR: f64 = 20.0;
const STEP: f64 = 30.0;
const TOP: f64 = 56.0;
/// A bar that is longer than so many baselines is broken off.
const BREAK_AT: f64 = 6.0;

const STYLE: &str = "
    text { font: 14px system-ui, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 16px }
    .quiet { fill: #59636e; font-size: 12px }
    .peer { fill: #8c959f }
    .ours { fill: #0969da }
    .base { stroke: #59636e; stroke-dasharray: 3 3 }
    .gap { stroke: #ffffff; stroke-width: 4 }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .quiet { fill: #9198a1 }
      .peer { fill: #656c76 }
      .ours { fill: #4493f8 }
      .base { stroke: #9198a1 }
      .gap { stroke: #0d1117 }
    }";

/// Bars of the first column, shortest first, with the baseline as a line through all of them.
pub(super) fn bars(table: &Table) -> String {
    let mut rows: Vec<_> = table.rows.iter().collect();
    rows.sort_by(|a, b| a.median().total_cmp(&b.median()));
    let base = table.baseline.as_deref().and_then(|label| table.row(label)).map(|row| row.median());
    let widest = rows.iter().map(|row| row.median()).fold(0.0, f64::max);
    let full = base.map_or(widest, |base| widest.min(base * BREAK_AT));
    let scale = (WIDTH - LABELS - NUMBERS) / full;
    let height = TOP + STEP * rows.len() as f64 + 12.0;
    let quantity = table.columns[0].name;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{quantity}, {title}</title>\n<style>{STYLE}\n</style>\n\
         <text class=\"title\" x=\"0\" y=\"20\">{quantity}</text>\n\
         <text class=\"quiet\" x=\"0\" y=\"40\">{title}; less is better</text>\n",
        title = table.title,
    );
    if let Some(base) = base {
        let x = LABELS + base * scale;
        let _ = writeln!(
            svg,
            "<line class=\"base\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{}\"/>",
            TOP - 6.0,
            height - 10.0
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + STEP * index as f64;
        let value = row.median();
        let end = LABELS + value.min(full) * scale;
        let class = if row.label.starts_with("auth-gateway") { "ours" } else { "peer" };
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{label}</text>\n\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\n",
            x = LABELS - 10.0,
            text = y + 15.0,
            label = row.label,
            width = end - LABELS,
        );
        if value > full {
            let x = end - 30.0;
            let _ = writeln!(
                svg,
                "<line class=\"gap\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
                x - 5.0,
                y + BAR + 2.0,
                x + 5.0,
                y - 2.0
            );
        }
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{value:.1}</text>", end + 8.0, y + 15.0);
    }
    svg.push_str("</svg>\n");
    svg
}
