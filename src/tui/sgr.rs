//! Colours and attributes of text that others wrote (SGR, ECMA-48 §8.3.117, and its common extensions).
//!
//! Blinking and concealed text, and text in the colour of its background, are shown like any other:
//! nothing in a log is to be overlooked.

use ratatui::style::{Color, Modifier, Style};
use vte::Params;

/// Applies one control sequence.
pub fn apply(style: &mut Style, params: &Params) {
    let mut groups = params.iter();
    while let Some(group) = groups.next() {
        let (code, sub) = group.split_first().map_or((0, &[][..]), |(code, sub)| (*code, sub));
        match code {
            0 => *style = Style::new(),
            1 => *style = style.add_modifier(Modifier::BOLD),
            2 => *style = style.add_modifier(Modifier::DIM),
            3 => *style = style.add_modifier(Modifier::ITALIC),
            4 if sub == [0] => *style = style.remove_modifier(Modifier::UNDERLINED),
            4 | 21 => *style = style.add_modifier(Modifier::UNDERLINED),
            7 => *style = style.add_modifier(Modifier::REVERSED),
            9 => *style = style.add_modifier(Modifier::CROSSED_OUT),
            22 => *style = style.remove_modifier(Modifier::BOLD | Modifier::DIM),
            23 => *style = style.remove_modifier(Modifier::ITALIC),
            24 => *style = style.remove_modifier(Modifier::UNDERLINED),
            27 => *style = style.remove_modifier(Modifier::REVERSED),
            29 => *style = style.remove_modifier(Modifier::CROSSED_OUT),
            30..=37 | 90..=97 => style.fg = Some(named(code)),
            40..=47 | 100..=107 => style.bg = Some(named(code - 10)),
            39 => style.fg = None,
            49 => style.bg = None,
            38 | 48 => {
                let color = if sub.is_empty() {
                    extended(&mut groups.by_ref().map(|it| it.first().copied().unwrap_or(0)))
                } else {
                    extended_by_colons(sub)
                };
                let place = if code == 38 { &mut style.fg } else { &mut style.bg };
                *place = color.or(*place);
            }
            _ => (),
        }
    }
    // Hidden text is not hidden here.
    if style.fg.is_some() && style.fg == style.bg {
        style.bg = None;
    }
    // What was taken away is not there; ratatui would remember it as something to take away.
    style.sub_modifier = Modifier::empty();
}

fn named(code: u16) -> Color {
    const COLORS: [Color; 16] = [
        Color::Black,
        Color::Red,
        Color::Green,
        Color::Yellow,
        Color::Blue,
        Color::Magenta,
        Color::Cyan,
        Color::Gray,
        Color::DarkGray,
        Color::LightRed,
        Color::LightGreen,
        Color::LightYellow,
        Color::LightBlue,
        Color::LightMagenta,
        Color::LightCyan,
        Color::White,
    ];
    let n = if code >= 90 { code - 90 + 8 } else { code - 30 };
    COLORS.get(usize::from(n)).copied().unwrap_or(Color::Reset)
}

/// `5;N` or `2;R;G;B`. Takes only as many as it needs.
fn extended(rest: &mut impl Iterator<Item = u16>) -> Option<Color> {
    let byte = |it: Option<u16>| u8::try_from(it?).ok();
    match rest.next()? {
        5 => byte(rest.next()).map(Color::Indexed),
        2 => {
            let (r, g, b) = (byte(rest.next()), byte(rest.next()), byte(rest.next()));
            Some(Color::Rgb(r?, g?, b?))
        }
        _ => None,
    }
}

/// `:5:N`, `:2:R:G:B`, or with the colour space that the standard has, `:2::R:G:B`.
fn extended_by_colons(sub: &[u16]) -> Option<Color> {
    match sub {
        [2, _, rgb @ ..] if rgb.len() >= 3 => extended(&mut std::iter::once(2).chain(rgb.to_vec())),
        _ => extended(&mut sub.iter().copied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::ansi::colored;

    fn last(text: &str) -> Style {
        let (_, runs) = colored(&format!("{text}x"));
        runs.last().map_or(Style::new(), |it| it.style)
    }

    #[test]
    fn colours_and_attributes_are_understood_in_all_their_spellings() {
        let fg = |color| Style::new().fg(color);
        let cases = [
            ("\x1b[31m", fg(Color::Red)),
            ("\x1b[97m", fg(Color::White)),
            (
                "\x1b[1;4;38;5;208m",
                fg(Color::Indexed(208)).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            ),
            ("\x1b[38;2;1;2;3m", fg(Color::Rgb(1, 2, 3))),
            ("\x1b[38:2:1:2:3m", fg(Color::Rgb(1, 2, 3))),
            ("\x1b[38:2::1:2:3m", fg(Color::Rgb(1, 2, 3))),
            ("\x1b[38:5:9m", fg(Color::Indexed(9))),
            ("\x1b[38;5;300;1m", Style::new().add_modifier(Modifier::BOLD)),
            ("\x1b[44m\x1b[104m", Style::new().bg(Color::LightBlue)),
            ("\x1b[1;31m\x1b[22;39m", Style::new()),
            ("\x1b[31mred\x1b[m", Style::new()),
            // Neither blinking nor concealed, and no mode is changed.
            ("\x1b[5;8m\x1b[?25l\x1b[>4;2m", Style::new()),
        ];
        for (text, expected) in cases {
            assert_eq!(last(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_in_the_colour_of_its_background_is_seen() {
        assert_eq!(last("\x1b[31;41m"), Style::new().fg(Color::Red));
        assert_eq!(last("\x1b[48;5;7m\x1b[38;5;7m"), Style::new().fg(Color::Indexed(7)));
    }
}
