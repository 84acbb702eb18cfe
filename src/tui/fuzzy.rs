//! Finds an action by a few letters of its name.
//!
//! Letters must come in order, not side by side: `rbk` finds `rollback`. What begins a word or goes
//! on where the last letter was counts more, so that a person who types a name gets it first. Forty
//! actions need no index and no library.

/// How well something fits (more is better), and which characters of it were meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    pub score: i32,
    /// Indices of characters, ascending.
    pub hits: Vec<usize>,
}

/// Looks for the letters of `needle`, which is in lower case and has no blanks, in `text`.
pub fn fit(needle: &str, text: &str) -> Option<Fit> {
    let needle: Vec<char> = needle.chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let Some(first) = needle.first() else { return Some(Fit::default()) };
    let starts = (0..text.len()).filter(|n| text[*n] == *first);
    // Among equals the first place is the one that is seen first.
    let all = starts.filter_map(|start| from(&needle, &text, start));
    all.reduce(|best, it| if it.score > best.score { it } else { best })
}

/// Takes the letters one by one, each where it counts most among what is near.
fn from(needle: &[char], text: &[char], start: usize) -> Option<Fit> {
    let mut hits = vec![start];
    let mut score = worth(text, None, start);
    for letter in &needle[1..] {
        let last = *hits.last()?;
        let at = if text.get(last + 1) == Some(letter) {
            last + 1
        } else {
            let ahead = || (last + 1..text.len()).filter(|n| text[*n] == *letter);
            ahead().find(|n| begins_word(text, *n)).or_else(|| ahead().next())?
        };
        score += worth(text, Some(last), at);
        hits.push(at);
    }
    Some(Fit { score, hits })
}

fn worth(text: &[char], last: Option<usize>, at: usize) -> i32 {
    let begins = if begins_word(text, at) { 8 } else { 0 };
    let first = if at == 0 { 4 } else { 0 };
    let follows = match last {
        Some(last) if at == last + 1 => 6,
        Some(last) => -i32::try_from(at - last).unwrap_or(i32::MAX).min(5),
        None => 0,
    };
    begins + first + follows
}

fn begins_word(text: &[char], at: usize) -> bool {
    at == 0 || !text[at - 1].is_alphanumeric()
}

/// Where `needle`, in lower case, stands in `text`: the indices of its characters.
pub fn find(needle: &str, text: &str) -> Option<Vec<usize>> {
    let lower = text.to_lowercase();
    let at = lower.find(needle)?;
    let from = lower[..at].chars().count();
    Some((from..from + needle.chars().count()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_in_order_are_found_where_they_count_most() {
        let hits = |needle, text| fit(needle, text).map(|it| it.hits);
        assert_eq!(hits("rbk", "rollback"), Some(vec![0, 4, 7]));
        assert_eq!(hits("sn", "stop-now"), Some(vec![0, 5]));
        assert_eq!(hits("now", "stop-now"), Some(vec![5, 6, 7]));
        assert_eq!(hits("", "roll"), Some(vec![]));
        assert_eq!(hits("lr", "roll"), None);
    }

    #[test]
    fn who_types_a_name_gets_it_first() {
        let best = |needle: &str, of: &[&'static str]| {
            of.iter().copied().max_by_key(|it| fit(needle, it).map(|it| it.score))
        };
        assert_eq!(best("st", &["restart", "stop", "last"]), Some("stop"));
        assert_eq!(best("art", &["mark-all top", "restart"]), Some("restart"));
    }

    #[test]
    fn a_part_of_an_explanation_is_found_as_it_stands() {
        assert_eq!(find("sigusr", "é SIGUSR1 (Swoole)"), Some(vec![2, 3, 4, 5, 6, 7]));
        assert_eq!(find("x", "roll"), None);
    }
}
