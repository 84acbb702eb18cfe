//! A screen as a picture (SVG), and what a terminal was sent as a cast (asciinema v2), without the names
//! of the machine they were made on.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

/// Pixels of a cell, and around the screen.
const CELL: (f32, f32) = (8.4, 18.0);
const MARGIN: f32 = 10.0;

/// The sixteen colours as most terminals show them.
const SIXTEEN: [&str; 16] = [
    "#1c2128", "#f47067", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#adbac7",
    "#768390", "#ff938a", "#6bc46d", "#daaa3f", "#6cb6ff", "#dcbdfb", "#56d4dd", "#ffffff",
];

/// Text and background where nothing else is said.
#[derive(Clone, Copy)]
pub(crate) struct Paper {
    pub(crate) text: &'static str,
    pub(crate) ground: &'static str,
}

pub(crate) const DARK: Paper = Paper { text: "#cdd9e5", ground: "#0d1117" };
pub(crate) const LIGHT: Paper = Paper { text: "#1f2328", ground: "#ffffff" };

#[derive(Clone, PartialEq)]
struct Look {
    text: String,
    ground: String,
    style: String,
}

/// Draws a screen; `secrets` are replaced by something of the same length.
pub(crate) fn svg(screen: &Screen, paper: Paper, title: &str, secrets: &Secrets) -> String {
    let (rows, columns) = (screen.size().0.get(), screen.size().1.get());
    let size = |cells: u16, pixels: f32| f32::from(cells) * pixels + 2.0 * MARGIN;
    let (width, height) = (size(columns, CELL.0), size(rows, CELL.1));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace\" font-size=\"14\" xml:space=\"preserve\">\n\
         <title>{}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{}\"/>\n",
        escaped(title),
        paper.ground
    );
    for y in 0..rows {
        line(&mut out, screen, paper, y, secrets);
    }
    out + "</svg>\n"
}

fn line(out: &mut String, screen: &Screen, paper: Paper, y: u16, secrets: &Secrets) {
    let columns = screen.size().1.get();
    let cells = (0..columns).filter_map(|x| screen.cell(y, x));
    let text = cells.map(|it| it.contents().chars().next().unwrap_or(' ')).collect::<String>();
    let text: Vec<char> = secrets.hide(&text).chars().collect();
    let mut x = 0;
    while x < columns {
        let looks = (x..columns).map_while(|at| screen.cell(y, at).map(|it| look(it, paper)));
        let looks: Vec<Look> = looks.collect();
        let width = looks.iter().take_while(|it| **it == looks[0]).count();
        let run: String = text[usize::from(x)..usize::from(x) + width].iter().collect();
        draw(out, (x, y), width, &run, &looks[0], paper);
        x += u16::try_from(width).unwrap();
    }
}

fn draw(out: &mut String, (x, y): (u16, u16), width: usize, run: &str, look: &Look, paper: Paper) {
    let cells = |n: usize| f32::from(u16::try_from(n).unwrap()) * CELL.0;
    let (left, top) = (MARGIN + cells(x.into()), MARGIN + f32::from(y) * CELL.1);
    if look.ground != paper.ground {
        writeln!(
            out,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{}\"/>",
            cells(width),
            CELL.1,
            look.ground
        )
        .unwrap();
    }
    let shown = run.trim();
    if shown.is_empty() {
        return;
    }
    let skipped = run.chars().take_while(|it| it.is_whitespace()).count();
    writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" textLength=\"{:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{}>{}</text>",
        left + cells(skipped),
        top + 13.5,
        cells(shown.chars().count()),
        look.text,
        look.style,
        escaped(shown)
    )
    .unwrap();
}

fn look(cell: &Cell, paper: Paper) -> Look {
    let mut text = color(cell.fgcolor(), paper.text);
    let mut ground = color(cell.bgcolor(), paper.ground);
    if cell.inverse() {
        std::mem::swap(&mut text, &mut ground);
    }
    let mut style = String::new();
    for (holds, attribute) in [
        (cell.bold(), " font-weight=\"bold\""),
        (cell.dim(), " fill-opacity=\"0.6\""),
        (cell.underline(), " text-decoration=\"underline\""),
    ] {
        style.push_str(if holds { attribute } else { "" });
    }
    Look { text, ground, style }
}

fn color(color: Color, default: &str) -> String {
    match color {
        Color::Default => default.to_owned(),
        Color::Idx(index) => SIXTEEN.get(usize::from(index)).copied().unwrap_or(default).to_owned(),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What must not be seen, and what stands there instead: the same number of characters, because
/// screens are made of places.
pub(crate) struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// The directory of a test, the machine, and the name of its deck.
    pub(crate) fn new(directory: &str, host: &str) -> Self {
        let like = |text: &str, long: &str| -> String { long.chars().take(text.len()).collect() };
        let path = "/srv/opsdeck/deployments/of-the-shop-and-all-that-belongs-to-it";
        let machine = "web-7-north-rack-12-of-the-second-data-centre";
        Self(vec![
            (directory.to_owned(), like(directory, path)),
            (format!("@{host}"), format!("@{}", like(host, machine))),
            ("opsdeck test".into(), "opsdeck shop".into()),
        ])
    }

    pub(crate) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (secret, instead)| text.replace(secret, instead))
    }
}

/// `asciicast` version 2: a header, then `[seconds, "o", text]` a line.
pub(crate) fn cast((columns, rows): (u16, u16), title: &str, parts: &[(f64, String)]) -> String {
    let header = serde_json::json!({
        "version": 2, "width": columns, "height": rows, "title": title,
        "env": { "TERM": "xterm-256color" },
    });
    let mut out = format!("{header}\n");
    for (at, text) in parts {
        let at = (at * 1000.0).round() / 1000.0;
        writeln!(out, "{}", serde_json::json!([at, "o", text])).unwrap();
    }
    out
}
