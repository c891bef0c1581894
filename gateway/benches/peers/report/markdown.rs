//! Tables as Markdown.

use std::fmt::Write as _;

use super::goal::Verdict;
use crate::table::{Column, Row, Table};

impl Table {
    /// The table with its title, its winner and its remarks.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        if !self.rows.is_empty() {
            self.push_rows(&mut text);
            self.push_winner(&mut text);
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "\n{remark}");
        }
        text
    }

    /// What came of the goals whose systems were measured.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.goals.iter().filter_map(|goal| goal.judge(self)).collect()
    }

    fn push_rows(&self, text: &mut String) {
        let [first, further @ ..] = self.columns else { return };
        let mut heads = vec!["system".to_owned(), first.name.to_owned(), "min–max".to_owned()];
        heads.extend(self.baseline.iter().map(|to| format!("÷ {to}")));
        heads.extend(further.iter().map(|column| column.name.to_owned()));
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            heads.push("goal".to_owned());
        }
        let _ = writeln!(text, "| {} |", heads.join(" | "));
        let _ = writeln!(text, "| --- |{}", " ---: |".repeat(heads.len() - 1));
        let winner = self.winner().map(|row| row.label.as_str());
        for row in &self.rows {
            let cells = self.cells(row, &verdicts, heads.len(), winner == Some(&row.label));
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }

    fn cells(&self, row: &Row, verdicts: &[Verdict], width: usize, wins: bool) -> Vec<String> {
        let [first, further @ ..] = self.columns else { return Vec::new() };
        let emphasis = if wins { "**" } else { "" };
        let mut cells = vec![format!("{emphasis}{}{emphasis}", row.label)];
        if let Some(samples) = row.samples(0) {
            cells.push(format!("{emphasis}{}{emphasis}", number(first, samples.median())));
            cells.push(format!("{}–{}", number(first, samples.least()), number(first, samples.most())));
        }
        if let Some(to) = &self.baseline {
            let ratio = self.ratios(&row.label, to);
            cells.push(ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median())));
        }
        for (index, column) in further.iter().enumerate() {
            let samples = row.samples(index + 1);
            cells.push(samples.map_or_else(String::new, |samples| number(column, samples.median())));
        }
        if cells.len() < width {
            let own = verdicts.iter().filter(|verdict| verdict.row == row.label);
            let parts: Vec<String> =
                own.map(|verdict| format!("{}: {}", verdict.goal, verdict.outcome())).collect();
            cells.push(parts.join("; "));
        }
        cells
    }

    fn push_winner(&self, text: &mut String) {
        let ours = self.rows.iter().any(|row| row.label.starts_with("auth-gateway"));
        let peers = self.rows.iter().any(|row| !row.label.starts_with("auth-gateway"));
        let Some(winner) = self.winner().filter(|_| ours && peers) else { return };
        let _ = if winner.label.starts_with("auth-gateway") {
            writeln!(text, "\nBest: {}.", winner.label)
        } else {
            writeln!(text, "\n**A peer wins here: {}.**", winner.label)
        };
    }
}

fn number(column: &Column, value: f64) -> String {
    format!("{value:.*}", column.digits)
}
