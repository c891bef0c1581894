//! Suggestions for unknown names.

/// `did you mean …`, if one of `known` is similar to `given`.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(given, known).map(|name| format!("did you mean `{name}`?"))
}

/// The one of `known` that is most similar to `given`, if one is similar enough.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// [`did_you_mean`], or else all known names, as `what: a, b, c`.
pub(super) fn suggest(what: &str, given: &str, known: &[&str]) -> Option<String> {
    did_you_mean(given, known.iter().copied())
        .or_else(|| (!known.is_empty()).then(|| format!("{what}: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_name() {
        let known = ["access_ttl", "refresh_ttl", "leeway"];
        for (given, meant) in
            [("acess_ttl", "access_ttl"), ("leewya", "leeway"), ("Refresh-TTL", "refresh_ttl")]
        {
            assert_eq!(did_you_mean(given, known), Some(format!("did you mean `{meant}`?")), "{given}");
        }
    }

    #[test]
    fn something_else_lists_what_is_known() {
        assert_eq!(did_you_mean("colour", ["leeway"]), None);
        assert_eq!(suggest("known", "colour", &["a", "leeway"]), Some("known: a, leeway".into()));
    }
}
