//! The project's performance goals, and whether they were reached.

use std::fmt;

use crate::table::Table;

/// A goal for one table.
pub(crate) enum Goal {
    /// The first column, divided by that of another row in the same round.
    Ratio { row: String, to: String, limit: Limit },
    /// A column's median.
    Value { row: String, column: usize, limit: Limit },
    /// The first column's medians, whose largest may be so much above the smallest.
    Alike { rows: Vec<String>, within: f64 },
}

/// On which side of a number it is good to be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn holds(self, value: f64) -> bool {
        match self {
            Limit::AtMost(limit) => value <= limit,
            Limit::AtLeast(limit) => value >= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::AtMost(limit) => write!(f, "≤ {limit}"),
            Limit::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
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
        match self {
            Goal::Ratio { row, to, limit } => {
                let ratio = table.ratios(row, to)?.median();
                Some(Verdict {
                    row: row.clone(),
                    goal: format!("{limit} × {to}"),
                    measured: format!("{ratio:.2} ×"),
                    reached: limit.holds(ratio),
                })
            }
            Goal::Value { row, column, limit } => {
                let value = median(row, *column)?;
                Some(Verdict {
                    row: row.clone(),
                    goal: format!("{} {limit}", table.columns[*column].name),
                    measured: format!("{value:.2}"),
                    reached: limit.holds(value),
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
