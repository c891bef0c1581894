//! Which language a person reads, by `Accept-Language` (RFC 9110 section 12.5.4).

/// The best of the languages in `available`, by the order of liking in `accept`; the first where none fits. `de-AT` is served
/// by `de-at` or else by `de` (RFC 4647 section 3.4, lookup).
pub(crate) fn choose<'a>(accept: &[u8], available: &[&'a str]) -> Option<&'a str> {
    let mut liked: Vec<(u32, &str)> = accept
        .split(|&b| b == b',')
        .filter_map(|member| {
            let mut parts = std::str::from_utf8(member).ok()?.split(';').map(str::trim);
            let tag = parts.next()?;
            let quality =
                parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse().ok());
            let quality: f32 = quality.filter(|q| *q > 0.0 && *q <= 1.0)?;
            Some(((quality * 1000.0) as u32, tag))
        })
        .take(32)
        .collect();
    liked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    let served = |tag: &str| available.iter().find(|known| known.eq_ignore_ascii_case(tag)).copied();
    let lookup = |mut tag: &str| loop {
        if let Some(found) = served(tag) {
            return Some(found);
        }
        tag = tag.rsplit_once('-')?.0;
    };
    liked.iter().find_map(|(_, tag)| lookup(tag)).or(available.first().copied())
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn the_language_that_is_liked_best_is_chosen_and_english_where_none_is_known() {
        for (accept, chosen) in [
            ("", "en"),
            ("de", "de"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("fr-CA, de;q=0.5, en;q=0.7", "en"),
            ("en;q=0.1, de;q=0.2", "de"),
            ("en;q=0, de", "de"),
            ("fr", "en"),
            ("*", "en"),
            ("DE-de", "de"),
            ("pt-BR", "pt-br"),
            ("pt", "en"),
            ("de;q=x", "en"),
            ("\u{e4},;;q=,,de", "de"),
        ] {
            assert_eq!(choose(accept.as_bytes(), &["en", "de", "pt-br"]), Some(chosen), "{accept}");
        }
    }
}
