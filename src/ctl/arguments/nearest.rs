//! The name that somebody probably meant.

/// The candidate nearest to `name`, if one is near. Case, hyphens and underscores count for nothing.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_nonsense_is_not() {
        let names = ["key", "namespace", "page_size", "if_version"];
        let guess = |name| nearest(name, names.into_iter());
        assert_eq!(guess("namespac"), Some("namespace"));
        assert_eq!(guess("pageSize"), Some("page_size"));
        assert_eq!(guess("if-versoin"), Some("if_version"));
        assert_eq!(guess("kee"), Some("key"));
        assert_eq!(guess("value"), None);
    }
}
