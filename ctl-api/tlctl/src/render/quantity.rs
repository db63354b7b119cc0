//! Numbers, rates and times for people.

/// A count with separators: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate with three digits and an SI prefix: `12.3M`. Below one it is `<1`,
/// so that little is not taken for nothing.
pub fn rate(per_second: f64) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    if per_second <= 0.0 {
        return "0".to_owned();
    }
    if per_second < 1.0 {
        return "<1".to_owned();
    }
    let mut value = per_second;
    let mut prefix = 0;
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let decimals = if prefix == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}{}", PREFIXES[prefix])
}

/// A time in its two largest units: `3 d 4 h`, `12 s`.
pub fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let Some(first) = UNITS.iter().position(|(_, length)| seconds >= *length) else {
        return "0 s".to_owned();
    };
    let (name, length) = UNITS[first];
    let mut text = format!("{} {name}", seconds / length);
    if let Some((name, length)) = UNITS.get(first + 1) {
        let rest = seconds % UNITS[first].1 / length;
        if rest > 0 {
            text.push_str(&format!(" {rest} {name}"));
        }
    }
    text
}

/// A share of one as a bar of ten cells and percent.
pub fn bar(share: f64) -> String {
    const CELLS: usize = 10;
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let full = (share * CELLS as f64).round() as usize;
    format!("{}{} {:>3.0} %", "█".repeat(full), "░".repeat(CELLS - full), share * 100.0)
}

/// Values as small bars, the largest at full height.
pub fn sparkline(values: impl Iterator<Item = f64> + Clone) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.clone().fold(0.0, f64::max);
    values
        .map(|value| {
            let height = if largest > 0.0 { value / largest } else { 0.0 };
            LEVELS[((height * 7.0).round() as usize).min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(count(number), text);
        }
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn rates_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (-1.0, "0"),
            (0.2, "<1"),
            (7.4, "7"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (1.5e6, "1.50M"),
            (4e20, "400E"),
        ];
        for (number, text) in cases {
            assert_eq!(rate(number), text, "{number}");
        }
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_725, "1 h 2 min"),
            (90_061, "1 d 1 h"),
            (86_405, "1 d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn bars_and_sparklines_stay_in_bounds() {
        assert_eq!(bar(0.5), "█████░░░░░  50 %");
        assert_eq!(bar(7.0), "██████████ 100 %");
        assert_eq!(bar(f64::NAN), "░░░░░░░░░░   0 %");
        assert_eq!(sparkline([0.0, 1.0, 2.0, 4.0].into_iter()), "▁▃▅█");
        assert_eq!(sparkline([0.0, 0.0].into_iter()), "▁▁");
    }
}
