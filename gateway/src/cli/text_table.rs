//! Tables on a terminal.

/// The rows as lines with aligned columns, two spaces between them.
pub(super) fn align<R: AsRef<[String]>>(rows: &[R]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &R| {
        let cells = row.as_ref().iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bb"], ["ééé", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(align(&rows), ["a    bb", "ééé"]);
    }
}
