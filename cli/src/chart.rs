//! A line of values drawn with Braille patterns: two by four dots in a character.

use std::fmt::Write as _;

use crate::{output::short, times::Micros};

/// Rows of characters.
const HEIGHT: usize = 8;

/// Draws values over time, `width` characters wide, with its axes; `show` tells a time.
///
/// # Panics
///
/// Never: of fewer than two points nothing is drawn.
pub(crate) fn draw(
    title: &str,
    points: &[(Micros, f64)],
    width: usize,
    show: impl Fn(Micros) -> String,
) -> String {
    let times = points.iter().map(|(time_us, _)| *time_us);
    let (Some(first), Some(last)) = (times.clone().min(), times.max()) else { return String::new() };
    if first == last {
        return String::new();
    }
    let values = || points.iter().map(|(_, value)| *value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let labels = [short(high), short(f64::midpoint(low, high)), short(low)];
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let columns = width.saturating_sub(margin + 3).max(10);
    let mut dots = vec![vec![0_u8; columns]; HEIGHT];
    let place = |(time_us, value): (Micros, f64)| {
        let across = (time_us - first) as f64 / (last - first) as f64 * (columns * 2 - 1) as f64;
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        let down = (1.0 - share) * (HEIGHT * 4 - 1) as f64;
        (across.round() as i64, down.round() as i64)
    };
    let mut previous: Option<(i64, i64)> = None;
    for point in points {
        let (x, y) = place(*point);
        let (x0, y0) = previous.replace((x, y)).unwrap_or((x, y));
        let steps = (x - x0).abs().max((y - y0).abs()).max(1);
        for step in 0..=steps {
            let at = |from: i64, to: i64| (from + (to - from) * step / steps) as usize;
            set(&mut dots, at(x0, x), at(y0, y));
        }
    }
    let mut text = format!("{title}\n");
    for (row, line) in dots.iter().enumerate() {
        let label = match row {
            0 => &labels[0],
            _ if row == HEIGHT / 2 => &labels[1],
            _ if row == HEIGHT - 1 => &labels[2],
            _ => "",
        };
        let drawn: String =
            line.iter().map(|&dots| char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' ')).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{label:>margin$} ┤{drawn}");
    }
    let (from, to) = (show(first), show(last));
    let gap = columns.saturating_sub(from.len() + to.len()).max(1);
    let _ = writeln!(text, "{:margin$}  {from}{}{to}", "", " ".repeat(gap));
    text
}

/// Sets a dot: Braille numbers its dots down the left column first, then the right, the lowest row last.
fn set(dots: &mut [Vec<u8>], x: usize, y: usize) {
    const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
    if let Some(cell) = dots.get_mut(y / 4).and_then(|row| row.get_mut(x / 2)) {
        *cell |= BITS[y % 4][x % 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::show;

    #[test]
    fn a_rise_goes_from_the_lower_left_to_the_upper_right() {
        let points: Vec<(Micros, f64)> = (0..=40).map(|n| (n * 3_600_000_000, n as f64)).collect();
        let text = draw("temperature (Cel)", &points, 44, show);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "temperature (Cel)");
        assert!(
            lines[1].starts_with("40 ┤⠀") && lines[1].ends_with('⠉')
                || lines[1].ends_with('⠁')
                || lines[1].ends_with('⠊'),
            "{text}"
        );
        assert!(lines[8].starts_with(" 0 ┤") && !lines[8].contains("┤⠀"), "{text}");
        assert!(
            lines[9].contains("1970-01-01T00:00:00Z") && lines[9].ends_with("1970-01-02T16:00:00Z"),
            "{text}"
        );
    }

    #[test]
    fn what_cannot_be_drawn_is_not() {
        assert_eq!(draw("x", &[], 80, show), "");
        assert_eq!(draw("x", &[(1, 2.0)], 80, show), "");
        let flat = draw("x", &[(0, 2.0), (1_000_000, 2.0)], 1, show);
        assert_eq!(flat.lines().count(), 10, "{flat}");
    }
}
