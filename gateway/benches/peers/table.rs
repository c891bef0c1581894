//! Results: rows of systems, columns of quantities, a sample per round.

use std::collections::BTreeMap;

use crate::report::goal::Goal;

/// A quantity. The first one of a table is what the table is about.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// With its unit.
    pub(crate) name: &'static str,
    pub(crate) better: Better,
    /// Digits behind the point.
    pub(crate) digits: usize,
}

/// Which way a quantity is good.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// One table of the report.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
    /// The row that the others are divided by.
    pub(crate) baseline: Option<String>,
    pub(crate) goals: Vec<Goal>,
    /// What has to be known to read it.
    pub(crate) remarks: Vec<String>,
}

/// A system, with the values of every column in each round.
pub(crate) struct Row {
    pub(crate) label: String,
    rounds: BTreeMap<u32, Vec<f64>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &'static [Column]) -> Table {
        Table {
            title: title.into(),
            columns,
            rows: Vec::new(),
            baseline: None,
            goals: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Divides every row by this one.
    pub(crate) fn relative_to(mut self, label: &str) -> Table {
        self.baseline = Some(label.to_owned());
        self
    }

    pub(crate) fn goal(mut self, goal: Goal) -> Table {
        self.goals.push(goal);
        self
    }

    pub(crate) fn remark(mut self, remark: impl Into<String>) -> Table {
        self.remarks.push(remark.into());
        self
    }

    /// Keeps what a round brought for a row, a value for each column.
    pub(crate) fn record(&mut self, round: u32, label: &str, values: &[f64]) {
        if self.row(label).is_none() {
            self.rows.push(Row { label: label.to_owned(), rounds: BTreeMap::new() });
        }
        for row in self.rows.iter_mut().filter(|row| row.label == label) {
            row.rounds.insert(round, values.to_vec());
        }
    }

    pub(crate) fn row(&self, label: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.label == label)
    }

    /// The first column of one row divided by that of another, round by round.
    pub(crate) fn ratios(&self, label: &str, to: &str) -> Option<Samples> {
        let (row, to) = (self.row(label)?, self.row(to)?);
        let pairs =
            row.rounds.iter().filter_map(|(round, values)| Some((values[0], to.rounds.get(round)?[0])));
        Samples::new(pairs.map(|(value, base)| value / base).collect())
    }

    /// The row whose first column is best.
    pub(crate) fn winner(&self) -> Option<&Row> {
        let column = self.columns.first()?;
        let contenders = self.rows.iter().filter(|row| !FLOORS.contains(&row.label.as_str()));
        let by_median = |a: &&Row, b: &&Row| a.median().total_cmp(&b.median());
        match column.better {
            Better::Lower => contenders.min_by(by_median),
            Better::Higher => contenders.max_by(by_median),
        }
    }
}

/// Copies bytes and looks at nothing.
pub(crate) const RELAY: &str = "byte relay in C";
/// The upstream, asked directly.
pub(crate) const NO_PROXY: &str = "the upstream alone";
/// They are no full proxies, and show the lower bound.
const FLOORS: [&str; 2] = [RELAY, NO_PROXY];

impl Row {
    /// All rounds of a column. A row has one sample at least.
    pub(crate) fn samples(&self, column: usize) -> Option<Samples> {
        Samples::new(self.rounds.values().filter_map(|values| values.get(column).copied()).collect())
    }

    /// The median of the first column.
    pub(crate) fn median(&self) -> f64 {
        self.samples(0).map_or(f64::NAN, |samples| samples.median())
    }
}

/// Values in order, at least one.
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Samples> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Samples(values))
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { (self.0[middle - 1] + self.0[middle]) / 2.0 }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}
