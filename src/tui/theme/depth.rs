//! How many colours a terminal has, and what is made of a theme's colours there.
//!
//! Nobody can ask every terminal; `TERM` and `COLORTERM` say what is needed. A colour that is not
//! there becomes the nearest that is. Where there are none at all, what had a background is reversed:
//! a selection must be seen.

use ratatui::style::{Color, Modifier, Style};

/// How many colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    None,
    Sixteen,
    Indexed,
    True,
}

/// The xterm's sixteen, as far as anything can be said about them.
const SIXTEEN: [(Color, [u8; 3]); 16] = [
    (Color::Black, [0, 0, 0]),
    (Color::Red, [205, 0, 0]),
    (Color::Green, [0, 205, 0]),
    (Color::Yellow, [205, 205, 0]),
    (Color::Blue, [0, 0, 238]),
    (Color::Magenta, [205, 0, 205]),
    (Color::Cyan, [0, 205, 205]),
    (Color::Gray, [229, 229, 229]),
    (Color::DarkGray, [127, 127, 127]),
    (Color::LightRed, [255, 0, 0]),
    (Color::LightGreen, [0, 255, 0]),
    (Color::LightYellow, [255, 255, 0]),
    (Color::LightBlue, [92, 92, 255]),
    (Color::LightMagenta, [255, 0, 255]),
    (Color::LightCyan, [0, 255, 255]),
    (Color::White, [255, 255, 255]),
];

/// The six steps of the colour cube (xterm's 256colres.h).
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

impl Depth {
    /// What the environment says: `NO_COLOR` (<https://no-color.org>), `COLORTERM`, `TERM` (term(7)).
    pub fn of(no_color: bool, term: &str, colorterm: &str) -> Self {
        let colorless = ["", "dumb", "vt52", "vt100", "vt102", "vt220", "unknown"];
        if no_color || colorless.contains(&term) || term.ends_with("-m") || term.ends_with("-mono")
        {
            Self::None
        } else if matches!(colorterm, "truecolor" | "24bit") || term.ends_with("-direct") {
            Self::True
        } else if term.contains("256color") {
            Self::Indexed
        } else {
            Self::Sixteen
        }
    }

    /// `style` as it can be shown.
    pub fn style(self, style: Style) -> Style {
        if self == Self::None {
            let plain = Style { fg: None, bg: None, ..style };
            let reversed = style.bg.is_some();
            return if reversed { plain.add_modifier(Modifier::REVERSED) } else { plain };
        }
        Style {
            fg: style.fg.map(|it| self.color(it)),
            bg: style.bg.map(|it| self.color(it)),
            ..style
        }
    }

    fn color(self, color: Color) -> Color {
        match (self, color) {
            (Self::Indexed, Color::Rgb(r, g, b)) => Color::Indexed(indexed([r, g, b])),
            (Self::Sixteen, Color::Rgb(r, g, b)) => sixteen([r, g, b]),
            (Self::Sixteen, Color::Indexed(index)) => match SIXTEEN.get(usize::from(index)) {
                Some((color, _)) => *color,
                None => sixteen(rgb(index)),
            },
            _ => color,
        }
    }
}

fn distance(one: [u8; 3], other: [u8; 3]) -> u32 {
    one.iter().zip(other).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
}

/// The nearest of sixteen. Grey is near to every dark colour, and says nothing: a colour stays one.
fn sixteen(of: [u8; 3]) -> Color {
    let spread = |it: [u8; 3]| it.iter().max().zip(it.iter().min()).map_or(0, |(a, b)| a - b);
    let is_grey = spread(of) < 40;
    let same_kind = SIXTEEN.iter().filter(|it| (spread(it.1) == 0) == is_grey);
    same_kind.min_by_key(|it| distance(it.1, of)).map_or(Color::Reset, |it| it.0)
}

/// The nearest of the cube and the greys.
fn indexed(of: [u8; 3]) -> u8 {
    (16..=255).min_by_key(|it| distance(rgb(*it), of)).unwrap_or(16)
}

/// What an index above fifteen stands for.
fn rgb(index: u8) -> [u8; 3] {
    match index {
        0..16 => SIXTEEN[usize::from(index)].1,
        16..232 => {
            let at = |step: u8| CUBE[usize::from((index - 16) / step % 6)];
            [at(36), at(6), at(1)]
        }
        232.. => [8 + (index - 232) * 10; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_how_many_colours_there_are() {
        for (term, colorterm, expected) in [
            ("xterm-256color", "truecolor", Depth::True),
            ("xterm-256color", "", Depth::Indexed),
            ("screen-256color", "", Depth::Indexed),
            ("tmux", "", Depth::Sixteen),
            ("linux", "", Depth::Sixteen),
            ("xterm-direct", "", Depth::True),
            ("vt100", "", Depth::None),
            ("dumb", "truecolor", Depth::None),
            ("", "", Depth::None),
        ] {
            assert_eq!(Depth::of(false, term, colorterm), expected, "{term} {colorterm}");
        }
        assert_eq!(Depth::of(true, "xterm-256color", "truecolor"), Depth::None);
    }

    #[test]
    fn a_colour_that_is_not_there_becomes_the_nearest_and_stays_a_colour() {
        let red = Style::new().fg(Color::Rgb(0xa4, 0x0e, 0x26));
        assert_eq!(Depth::True.style(red), red);
        assert_eq!(Depth::Indexed.style(red).fg, Some(Color::Indexed(124)));
        assert_eq!(Depth::Sixteen.style(red).fg, Some(Color::Red));
        assert_eq!(sixteen([0x05, 0x50, 0xae]), Color::Blue);
        assert_eq!(sixteen([0x57, 0x60, 0x6a]), Color::DarkGray);
        assert_eq!(Depth::Sixteen.color(Color::Indexed(9)), Color::LightRed);
        assert_eq!(Depth::Sixteen.color(Color::Indexed(255)), Color::Gray);
    }

    #[test]
    fn without_colours_a_background_is_reversed() {
        let style = Depth::None.style(Style::new().fg(Color::Black).bg(Color::White));
        assert_eq!(style, Style::new().add_modifier(Modifier::REVERSED));
    }
}
