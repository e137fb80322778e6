//! Patterns for arguments, each for a whole one.

/// True if `patterns` match all of `arguments`: `**` any number of them, any other one of them.
pub(super) fn all_match(patterns: &[String], arguments: &[String]) -> bool {
    let matches = |pattern: &String, argument: &String| {
        let (pattern, argument): (Vec<char>, Vec<char>) =
            (pattern.chars().collect(), argument.chars().collect());
        wild(&pattern, &argument, |of| *of == '*', |of, one| *of == '?' || of == one)
    };
    wild(patterns, arguments, |pattern| pattern == "**", matches)
}

/// True if `pattern` matches all of `text`: what `is_any` any number of elements, the others one each that
/// `fits`. It takes at most as many steps as the product of both lengths.
fn wild<P, T>(
    pattern: &[P],
    text: &[T],
    is_any: impl Fn(&P) -> bool,
    fits: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut place) = (0, 0);
    // The last one for any number, and where its rest was tried.
    let mut back: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some(any) if is_any(any) => {
                back = Some((at, place));
                at += 1;
            }
            Some(one) if fits(one, &text[place]) => {
                at += 1;
                place += 1;
            }
            Some(_) | None => {
                let Some((any, tried)) = back else { return false };
                back = Some((any, tried + 1));
                (at, place) = (any + 1, tried + 1);
            }
        }
    }
    pattern[at..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::all_match;

    #[test]
    fn a_pattern_is_for_a_whole_argument() {
        let fit = |patterns: &str, arguments: &str| {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            all_match(&words(patterns), &words(arguments))
        };
        for (patterns, arguments) in [
            ("", ""),
            ("**", ""),
            ("**", "a b c"),
            ("push **", "push"),
            ("push **", "push origin main"),
            ("** -f **", "a -f"),
            ("** -f **", "-f b -f"),
            ("-* ?", "-rf x"),
            ("*é*", "caféx"),
            ("** a ** b", "a x a b"),
            ("*a*b*c", "xaybzc"),
        ] {
            assert!(fit(patterns, arguments), "{patterns:?} {arguments:?}");
        }
        for (patterns, arguments) in [
            ("", "a"),
            ("push", "push origin"),
            ("push", "pus"),
            ("pu", "push"),
            ("push **", "x push"),
            ("?", "ab"),
            ("* *", "a"),
            ("** a ** b", "b a"),
            ("*a*b*c", "xaybz"),
        ] {
            assert!(!fit(patterns, arguments), "{patterns:?} {arguments:?}");
        }
    }
}
