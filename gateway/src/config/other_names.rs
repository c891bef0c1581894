//! What other programs call the keys of this one.

/// Tables (as in [`super::sections::paths`]), words that people write in them, and what is meant: a key of the same table, the path
/// of another key, or a sentence.
fn entries() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    include_str!("text/other_names.txt").lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut parts = line.splitn(3, '|').map(str::trim);
        Some((parts.next()?, parts.next()?, parts.next()?))
    })
}

/// What `word` probably means in this table.
pub(super) fn meaning(table: &str, word: &str) -> Option<&'static str> {
    let folded = word.to_ascii_lowercase().replace('-', "_");
    let is_meant = |(place, words, _): &(&str, &str, &str)| {
        *place == table && words.split(' ').any(|word| word == folded)
    };
    entries().find(is_meant).map(|(.., meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sections::paths;

    #[test]
    fn what_is_meant_is_a_key_and_no_other_name_is_one() {
        let keys: Vec<String> = paths().into_iter().map(|(path, _)| path).collect();
        let below =
            |table: &str, key: &str| if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        assert!(entries().count() > 100);
        for (table, words, meant) in entries() {
            let is_key = keys.iter().any(|key| key == meant || *key == below(table, meant));
            assert!(is_key || meant.contains(' '), "{table}: {meant}");
            for word in words.split(' ') {
                assert!(!keys.contains(&below(table, word)), "{table}.{word} is a key");
                assert_eq!(meaning(table, word), Some(meant), "{table}.{word} stands there twice");
            }
        }
    }
}
