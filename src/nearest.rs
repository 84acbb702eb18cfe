//! What was probably meant by a word that nobody knows.

/// The known word that is written most like this one, if it is enough like it.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    alike(text, known).into_iter().next()
}

/// The known words that are written most like this one: several, where they are equally near.
///
/// A typing error is one letter, in long words two or three.
pub fn alike<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let distances = known.into_iter().map(|it| (strsim::damerau_levenshtein(text, it), it));
    let is_alike = |(distance, it): &(usize, &str)| *distance <= 1 + it.len().min(text.len()) / 4;
    let mut alike: Vec<_> = distances.filter(is_alike).collect();
    alike.sort_unstable();
    let least = alike.first().map(|it| it.0);
    alike.into_iter().take_while(|it| Some(it.0) == least).map(|it| it.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        let known = ["web", "works", "worker", "rollout-halted", "rollout-started"];
        assert_eq!(nearest("wbe", known), Some("web"));
        assert_eq!(nearest("api", known), None);
        assert_eq!(nearest("rolout-stated", known), Some("rollout-started"));
        assert_eq!(alike("workers", known), ["worker"]);
        assert_eq!(alike("workr", known), ["worker", "works"]);
    }
}
