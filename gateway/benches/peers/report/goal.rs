//! The goals that the project set itself, and whether they were reached.

use crate::table::Table;

/// A goal for one table.
pub(crate) enum Goal {
    /// The first column, divided by that of another row in the same round.
    Ratio { row: String, to: String, at_most: f64 },
    /// A column's median.
    AtMost { row: String, column: usize, limit: f64 },
    /// A column's median.
    AtLeast { row: String, column: usize, limit: f64 },
    /// The first column's medians, whose largest may be so much above the smallest.
    Alike { rows: Vec<String>, within: f64 },
}

/// A goal beside what was measured.
pub(crate) struct Verdict {
    pub(crate) row: String,
    pub(crate) goal: String,
    pub(crate) measured: String,
    pub(crate) reached: bool,
}

impl Verdict {
    pub(crate) fn outcome(&self) -> &'static str {
        if self.reached { "reached" } else { "**not reached**" }
    }
}

impl Goal {
    /// `None` if what it is about was not measured.
    pub(crate) fn judge(&self, table: &Table) -> Option<Verdict> {
        let median = |row: &str, column: usize| Some(table.row(row)?.samples(column)?.median());
        let name = |column: usize| table.columns[column].name;
        match self {
            Goal::Ratio { row, to, at_most } => {
                let ratio = table.ratios(row, to)?.median();
                Some(Verdict {
                    row: row.clone(),
                    goal: format!("≤ {at_most} × {to}"),
                    measured: format!("{ratio:.2} ×"),
                    reached: ratio <= *at_most,
                })
            }
            Goal::AtMost { row, column, limit } => {
                let value = median(row, *column)?;
                Some(Verdict {
                    row: row.clone(),
                    goal: format!("{} ≤ {limit}", name(*column)),
                    measured: format!("{value:.2}"),
                    reached: value <= *limit,
                })
            }
            Goal::AtLeast { row, column, limit } => {
                let value = median(row, *column)?;
                Some(Verdict {
                    row: row.clone(),
                    goal: format!("{} ≥ {limit}", name(*column)),
                    measured: format!("{value:.2}"),
                    reached: value >= *limit,
                })
            }
            Goal::Alike { rows, within } => {
                let medians: Option<Vec<f64>> = rows.iter().map(|row| median(row, 0)).collect();
                let medians = medians?;
                let most = medians.iter().copied().fold(f64::MIN, f64::max);
                let least = medians.iter().copied().fold(f64::MAX, f64::min);
                Some(Verdict {
                    row: "auth-gateway, all algorithms".to_owned(),
                    goal: format!("within {:.0} % of each other", within * 100.0),
                    measured: format!("{:.1} %", (most / least - 1.0) * 100.0),
                    reached: most / least - 1.0 <= *within,
                })
            }
        }
    }
}
