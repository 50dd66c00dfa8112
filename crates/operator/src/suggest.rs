//! What somebody may have meant who wrote a name that is none.

/// The name that is most like what was written, if any is like it: a letter or two wrong, left out,
/// added or changed places, or another case.
pub fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = letters(written);
    // One letter of a short name, three of a long one.
    let most = (written.len() / 3).clamp(1, 3);
    let near = names.into_iter().map(|name| (distance(&written, &letters(name), most), name));
    near.filter(|(distance, _)| *distance <= most).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// `did you mean '…'?` with what is most like it, to be put behind a sentence; empty where nothing
/// is.
pub fn question<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(written, names).map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

fn letters(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).map(|c| if c == '_' { '-' } else { c }).collect()
}

/// How many letters have to be put in, left out, replaced or swapped with the next to make one of
/// the other; something above `most` where it is more than that.
fn distance(a: &[char], b: &[char], most: usize) -> usize {
    if a.len().abs_diff(b.len()) > most {
        return most + 1;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_name_is_not() {
        let names = ["pump", "valve", "listen", "sweep-interval", "CLIENT_FAILOVER_LISTEN"];
        for (written, meant) in [
            ("pmup", Some("pump")),
            ("Pump", Some("pump")),
            ("pum", Some("pump")),
            ("vlave", Some("valve")),
            ("lisen", Some("listen")),
            ("sweep_intervall", Some("sweep-interval")),
            ("CLIENT_FAILOVER_LISTN", Some("CLIENT_FAILOVER_LISTEN")),
            ("boiler", None),
            ("p", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), meant, "{written}");
        }
        assert_eq!(question("valvo", names), "; did you mean 'valve'?");
        assert_eq!(question("boiler", names), "");
    }
}
