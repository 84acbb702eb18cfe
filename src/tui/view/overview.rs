//! The table: services, their instances, and the countdowns under them.
//!
//! Only the rows that are on the screen are built.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use unicode_width::UnicodeWidthStr;

use super::columns::{Column, Columns, GUTTER, Placed, columns};
use super::format::{age, bytes, clock, millis, percent, wrap};
use super::{countdown, put, put_right};
use crate::api::{Gateway, Goal, Instance, Service, State};
use crate::quantity::span;
use crate::tui::filter::entry;
use crate::tui::layout::Lines;
use crate::tui::model::{Link, Model, Now};
use crate::tui::rows::{Kind, Row, Sort};
use crate::tui::theme::word;

/// A tail this wide has room for the reason of the state.
const WIDE_TAIL: u16 = 24;

pub(super) fn draw(model: &Model, now: Now, lines: Lines, buf: &mut Buffer) {
    let columns = columns(model, buf.area.width);
    titles(model, usize::from(lines.height), &columns, buf);
    if model.rows.list.is_empty() {
        return empty(model, lines, buf);
    }
    let mut y = lines.y;
    let end = lines.y + lines.height;
    for (n, row) in model.rows.window(&model.deck, usize::from(lines.height)).enumerate() {
        let Some(service) = row.service(&model.deck) else { continue };
        let painter = Painter { model, now: model.picture(now), columns: &columns, y };
        match row.instance(&model.deck) {
            Some(it) => painter.instance(row, service, it, buf),
            None => painter.service(row, service, buf),
        }
        if model.rows.top + n == model.rows.cursor {
            let area = Rect { x: 0, y, width: buf.area.width, height: 1 };
            buf.set_style(area, model.theme.selected());
        }
        y += 1;
        if let Some((it, countdown)) =
            row.instance(&model.deck).and_then(|it| Some((it, it.countdown.as_ref()?)))
            && y < end
        {
            countdown::draw(model, it, countdown, now, y, buf);
            y += 1;
        }
    }
}

fn titles(model: &Model, height: usize, columns: &Columns, buf: &mut Buffer) {
    let style = model.theme.faint();
    let sign = model.theme.signs.sorted;
    let by = sorted(model.sort);
    let is_placed = by.is_some_and(|by| columns.placed.iter().any(|it| it.column == by));
    let name = match model.sort {
        Sort::File => "NAME".to_owned(),
        Sort::Name => format!("NAME{sign}"),
        // Its column is not on this screen.
        sort if !is_placed => format!("by {}{sign}", sort.word()),
        _ => "NAME".to_owned(),
    };
    let parts = part(model, height);
    let with_part = parts.iter().map(|it| format!("{name}{it}"));
    let fits = |it: &String| it.width() <= usize::from(columns.name);
    let name = with_part.into_iter().find(fits).unwrap_or_else(|| name.clone());
    put(buf, GUTTER, 1, columns.name, &name, style);
    for Placed { column, x, width } in &columns.placed {
        let is_sorted = by == Some(*column);
        // The sign may cost a title that fills its column a letter.
        let room = usize::from(*width) - usize::from(is_sorted);
        let title: String = column.title().chars().take(room).collect();
        let text = format!("{title}{}", if is_sorted { sign } else { "" });
        if *column == Column::State {
            put(buf, *x, 1, *width, &text, style);
        } else {
            put_right(buf, *x, 1, *width, &text, style);
        }
    }
}

/// Which rows are on the screen, where there are more; in words and shorter.
fn part(model: &Model, height: usize) -> Vec<String> {
    let all = model.rows.list.len();
    let shown = model.rows.window(&model.deck, height).count();
    if shown >= all {
        return vec![];
    }
    let (first, last) = (model.rows.top + 1, model.rows.top + shown);
    vec![format!("  {first}-{last} of {all}"), format!(" {first}-{last}/{all}")]
}

/// The column that rows are sorted by.
fn sorted(sort: Sort) -> Option<Column> {
    match sort {
        Sort::File | Sort::Name => None,
        Sort::State => Some(Column::State),
        Sort::Load => Some(Column::Rate),
        Sort::InFlight => Some(Column::InFlight),
        Sort::Cpu => Some(Column::Cpu),
        Sort::Memory => Some(Column::Memory),
        Sort::Restarts => Some(Column::Restarts),
    }
}

/// Why there are no rows, and what to do about it.
fn empty(model: &Model, lines: Lines, buf: &mut Buffer) {
    let filter = model.filter.text();
    let text = match &model.link {
        Link::Connecting { problem } => problem.clone().unwrap_or_default(),
        _ if !filter.is_empty() => format!("no row is {filter:?}; Esc clears the filter"),
        _ => {
            let path = model.deck.config.path.as_deref().unwrap_or("the configuration");
            format!("no services are configured: add a [service.NAME] with a command to {path}")
        }
    };
    let width = buf.area.width - GUTTER;
    let parts = wrap(&text, usize::from(width));
    for (y, part) in (lines.y..lines.y + lines.height).zip(parts) {
        put(buf, GUTTER, y, width, &part, model.theme.plain());
    }
}

struct Painter<'a> {
    model: &'a Model,
    now: Now,
    columns: &'a Columns,
    y: u16,
}

impl Painter<'_> {
    fn service(&self, row: Row, it: &Service, buf: &mut Buffer) {
        let signs = self.model.theme.signs;
        let folded = self.model.folded.contains(&it.name) && self.model.filter.query.is_named(it);
        let sign = if folded { signs.folded } else { signs.unfolded };
        put(buf, 0, self.y, 1, sign, self.model.theme.plain());
        self.mark(row, buf);
        self.name(&it.name, entry(it), GUTTER, 0, self.model.theme.strong(), buf);
        let trouble = it.gateway.as_ref().and_then(trouble);
        let shown = |it: &&Placed| trouble.is_none() || it.column == Column::State;
        for placed in self.columns.placed.iter().filter(shown) {
            let (text, style) = self.of_service(placed.column, it);
            self.cell(*placed, &text, style, buf);
        }
        if let Some(trouble) = trouble {
            // In the place of figures that nobody counts while it lasts.
            let from = self.columns.placed.first().map_or(GUTTER, |it| it.x + it.width + 1);
            let room = buf.area.width.saturating_sub(from);
            put(buf, from, self.y, room, &trouble, self.model.theme.bad());
            return;
        }
        let waiting = it.gateway.as_ref().filter(|it| it.held > 0).map(held);
        let stale = it.stale.then(|| "stale".to_owned());
        let tag = [waiting, stale].into_iter().flatten().collect::<Vec<_>>().join(" ");
        if self.has_room(&tag) {
            put(buf, self.columns.tail, self.y, buf.area.width, &tag, self.model.theme.moving());
        }
    }

    fn instance(&self, row: Row, service: &Service, it: &Instance, buf: &mut Buffer) {
        self.mark(row, buf);
        let indent = u16::from(row.kind == Kind::Instance);
        let theme = self.model.theme;
        let style = if is_out(service, it) { theme.faint() } else { theme.plain() };
        let Some((text, its_style)) = self.reason(it) else {
            self.name(&it.name, it.port, GUTTER + indent, 0, style, buf);
            for placed in &self.columns.placed {
                let (text, style) = self.of_instance(placed.column, service, it);
                self.cell(*placed, &text, style, buf);
            }
            let x = self.tags(service, it, buf);
            let room = buf.area.width.saturating_sub(x);
            if room >= WIDE_TAIL {
                put(buf, x, self.y, room, &it.why, self.model.theme.faint());
            }
            return;
        };
        let from = self.columns.placed.first().map_or(self.columns.tail, |it| it.x + it.width + 1);
        let right =
            |it: &&Placed| matches!(it.column, Column::Restarts | Column::Profile | Column::Since);
        let to = self.columns.placed.iter().find(right).map_or(buf.area.width, |it| it.x - 1);
        let left = self.spared(from, it, indent);
        self.name(&it.name, it.port, GUTTER + indent, left, style, buf);
        // Where the figures would be; a longer reason has the rest of the line as well.
        let covers = text.width() > usize::from(to.saturating_sub(from));
        for placed in self
            .columns
            .placed
            .iter()
            .filter(|it| it.column == Column::State || !covers && right(it))
        {
            let (text, style) = self.of_instance(placed.column, service, it);
            self.cell(Placed { x: placed.x - left, ..*placed }, &text, style, buf);
        }
        if !covers && to < buf.area.width {
            self.tags(service, it, buf);
        }
        let (from, to) = (from - left, if covers { buf.area.width } else { to });
        put(buf, from, self.y, to.saturating_sub(from), &text, its_style);
    }

    /// How many columns of its name a row gives to a reason that does not fit: those that its own name leaves.
    fn spared(&self, from: u16, it: &Instance, indent: u16) -> u16 {
        // A span that gets shorter moves nothing.
        let span = if it.state == State::Backoff { "again in 59s; ".len() } else { 0 };
        let port = it.port.map_or(0, |port| format!(" :{port}").len());
        let name = u16::try_from(it.name.width() + port).unwrap_or(u16::MAX);
        let room = usize::from(self.model.size.0.saturating_sub(from));
        let fits = span + it.why.width() <= room;
        if fits { 0 } else { self.columns.name.saturating_sub(name.saturating_add(indent)) }
    }

    fn mark(&self, row: Row, buf: &mut Buffer) {
        if row.id(&self.model.deck).is_some_and(|id| self.model.marked.contains(&id)) {
            put(buf, 1, self.y, 1, self.model.theme.signs.marked, self.model.theme.name());
        }
    }

    /// The name, and the port at the right of its column, without what it `spares`.
    fn name(
        &self,
        name: &str,
        port: Option<u16>,
        x: u16,
        spares: u16,
        style: Style,
        buf: &mut Buffer,
    ) {
        let end = GUTTER + self.columns.name - spares;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let room = end.saturating_sub(x + u16::try_from(port.len() + 1).unwrap_or(0));
        // Where both do not fit, the name is what one looks for.
        if name.width() <= usize::from(room) {
            put_right(buf, x, self.y, end - x, &port, self.model.theme.faint());
        }
        put(buf, x, self.y, end - x, name, style);
    }

    /// A row without a process says why in the place of its figures.
    fn reason(&self, it: &Instance) -> Option<(String, Style)> {
        if it.pid.is_some() || it.why.is_empty() && it.retry_at.is_none() {
            return None;
        }
        let text = match it.retry_at.filter(|_| it.state == State::Backoff) {
            Some(at) => {
                // Rounded up: at "in 0s" it has begun.
                let left = at.duration_since(self.now.wall).as_millis();
                let left = u64::try_from((left + 999) / 1000).unwrap_or(0);
                format!("again in {}; {}", span(left), it.why)
            }
            None => it.why.clone(),
        };
        let bad = matches!(it.state, State::Backoff | State::Fatal | State::Lost);
        let style = if bad { self.model.theme.plain() } else { self.model.theme.faint() };
        Some((text, style))
    }

    /// What is special about an instance; returns the column after it.
    fn tags(&self, service: &Service, it: &Instance, buf: &mut Buffer) -> u16 {
        let theme = self.model.theme;
        let held = it.held_by.as_ref().map(|who| format!("held by {who}"));
        // Where a stop or a hold does not say it already.
        let out = is_out(service, it) && it.held_by.is_none() && it.countdown.is_none();
        let out = out.then(|| "out".to_owned());
        let ejected = it.ejected.then(|| "ejected".to_owned());
        // The first thing to see: clients hang, whatever else is well.
        let is_full = it.is_backlog_full() && self.has_wide_tail();
        let full = is_full.then(|| "queue full".to_owned());
        let stale = it.stale.then(|| "stale".to_owned());
        let backup = it.backup.then(|| "backup".to_owned());
        let text = [full, held, ejected, out, stale, backup]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        if text.is_empty() || !self.has_room(&text) {
            return self.columns.tail;
        }
        let unusual = text != "backup";
        let style = match it.is_backlog_full() {
            true => theme.bad(),
            false if unusual => theme.moving(),
            false => theme.plain(),
        };
        put(buf, self.columns.tail, self.y, buf.area.width, &text, style) + 2
    }

    fn cell(&self, at: Placed, text: &str, style: Style, buf: &mut Buffer) {
        match at.column {
            Column::State => {
                put(buf, at.x, self.y, at.width, text, style);
            }
            // Signs stand in the middle of their column, under the title.
            Column::Live | Column::Ready if text.width() <= 1 => {
                put(buf, at.x + at.width / 2, self.y, at.width / 2, text, style);
            }
            _ => put_right(buf, at.x, self.y, at.width, text, style),
        }
    }

    fn of_instance(&self, column: Column, service: &Service, it: &Instance) -> (String, Style) {
        let theme = self.model.theme;
        let runs = it.pid.is_some();
        let text = match column {
            Column::State => return self.state_of_instance(it),
            Column::Live => return self.verdict(it.live.filter(|_| runs)),
            // Ready, and yet it gets no requests.
            Column::Ready if it.ready == Some(true) && is_out(service, it) => {
                return (theme.signs.out.into(), theme.moving());
            }
            Column::Ready => return self.verdict(it.ready.filter(|_| runs)),
            Column::Restarts if it.restarts > 0 => return (short(it.restarts), theme.moving()),
            Column::Restarts => "0".into(),
            Column::Pid => it.pid.map(|it| it.to_string()).unwrap_or_default(),
            Column::Up => it.started.filter(|_| runs).map(|at| self.age(at)).unwrap_or_default(),
            Column::Rate => it.requests_per_second.map(rate).unwrap_or_default(),
            Column::InFlight => {
                it.in_flight.map(|n| flight(n, it.in_flight_exact)).unwrap_or_default()
            }
            Column::P99 => it.p99_ms.map(millis).unwrap_or_default(),
            Column::Cpu => it.cpu_percent.filter(|_| runs).map(percent).unwrap_or_default(),
            Column::Memory => it.memory_bytes.filter(|_| runs).map(bytes).unwrap_or_default(),
            Column::Profile => service.profile.clone(),
            Column::Since => it.since.map(|at| clock(at, &self.model.tz)).unwrap_or_default(),
        };
        (text, theme.plain())
    }

    fn of_service(&self, column: Column, service: &Service) -> (String, Style) {
        let theme = self.model.theme;
        let all = &service.instances;
        let sum = |of: fn(&Instance) -> Option<u64>| all.iter().filter_map(of).reduce(|a, b| a + b);
        let text = match column {
            Column::State => return self.state_of_service(service),
            Column::Live => {
                let live = all.iter().filter(|it| it.live == Some(true)).count();
                // Where nothing asks whether they live, nothing says that they do not.
                let is_known = all.iter().any(|it| it.live.is_some());
                if is_known { format!("{live}/{}", service.wanted) } else { String::new() }
            }
            Column::Ready => format!("{}/{}", service.ready, service.wanted),
            Column::Rate if service.gateway.is_some() => {
                service.gateway.as_ref().map(|it| rate(it.requests_per_second)).unwrap_or_default()
            }
            Column::P99 if service.gateway.is_some() => {
                let p99 = service.gateway.as_ref().map(|it| it.traffic.p99_ms);
                p99.map(whole_ms).filter(|ms| *ms > 0).map(millis).unwrap_or_default()
            }
            Column::Rate => all
                .iter()
                .filter_map(|it| it.requests_per_second)
                .reduce(|a, b| a + b)
                .map(rate)
                .unwrap_or_default(),
            Column::InFlight => {
                let exact = all.iter().all(|it| it.in_flight.is_none() || it.in_flight_exact);
                let sum = all.iter().filter_map(|it| it.in_flight).reduce(|a, b| a + b);
                sum.map(|n| flight(n, exact)).unwrap_or_default()
            }
            Column::P99 => {
                all.iter().filter_map(|it| it.p99_ms).max().map(millis).unwrap_or_default()
            }
            Column::Cpu => all
                .iter()
                .filter_map(|it| it.cpu_percent)
                .reduce(|a, b| a + b)
                .map(percent)
                .unwrap_or_default(),
            Column::Memory => sum(|it| it.memory_bytes).map(bytes).unwrap_or_default(),
            Column::Restarts => short(all.iter().map(|it| it.restarts).sum()),
            Column::Profile => service.profile.clone(),
            Column::Pid | Column::Up | Column::Since => String::new(),
        };
        (text, theme.plain())
    }

    /// How many serve; where something is wrong that waiting does not mend, its word.
    fn state_of_service(&self, it: &Service) -> (String, Style) {
        let theme = self.model.theme;
        let wrong = matches!(it.state, State::Backoff | State::Fatal | State::Lost);
        let has_tail = self.columns.tail + 8 <= self.model.size.0;
        if let Some(gateway) = it.gateway.as_ref().filter(|it| it.held > 0 && !has_tail) {
            return (held(gateway), theme.moving());
        }
        if it.goal == Goal::Down || wrong {
            return (word(it.state).into(), theme.state(it.state));
        }
        let style = if it.ready < it.wanted { theme.moving() } else { theme.good() };
        (format!("{}/{} ready", it.ready, it.wanted), style)
    }

    /// While its workers are renewed, how far that is.
    fn state_of_instance(&self, it: &Instance) -> (String, Style) {
        match it.reload.as_ref().filter(|it| it.ended.is_none()) {
            // Where there is no tail for it.
            None if it.is_backlog_full() && !self.has_wide_tail() => {
                ("QUEUE FULL".into(), self.model.theme.bad())
            }
            Some(reload) => {
                (format!("RELOAD {}/{}", reload.renewed, reload.of), self.model.theme.moving())
            }
            None => (word(it.state).into(), self.model.theme.state(it.state)),
        }
    }

    /// The tail has room for the first word; a letter of it says nothing.
    fn has_room(&self, text: &str) -> bool {
        let word = text.split(' ').next().map_or(0, UnicodeWidthStr::width);
        usize::from(self.columns.tail) + word <= usize::from(self.model.size.0)
    }

    /// The tail has room for more than a word.
    fn has_wide_tail(&self) -> bool {
        self.columns.tail + 10 <= self.model.size.0
    }

    fn verdict(&self, verdict: Option<bool>) -> (String, Style) {
        let theme = self.model.theme;
        match verdict {
            Some(true) => (theme.signs.yes.into(), theme.good()),
            Some(false) => (theme.signs.no.into(), theme.bad()),
            None => (String::new(), theme.plain()),
        }
    }

    fn age(&self, since: jiff::Timestamp) -> String {
        age(self.now.wall.duration_since(since).as_secs())
    }
}

/// Why clients wait or are turned away, whatever the instances do.
fn trouble(it: &Gateway) -> Option<String> {
    it.trouble.clone().or_else(|| (!it.up).then(|| "gateway down: clients wait".to_owned()))
}

fn held(it: &Gateway) -> String {
    format!("held {}", it.held)
}

/// It runs behind a gateway that sends it no new requests.
fn is_out(service: &Service, it: &Instance) -> bool {
    service.gateway.is_some() && it.pid.is_some() && !it.in_rotation
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "milliseconds, and none that are less than nothing"
)]
fn whole_ms(ms: f64) -> u64 {
    ms.ceil() as u64
}

fn rate(rate: f64) -> String {
    if rate < 10.0 && rate > 0.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn flight(n: u32, exact: bool) -> String {
    format!("{}{n}", if exact { "" } else { "~" })
}

fn short(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{}k", n / 1000) }
}
