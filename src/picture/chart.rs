//! A chart: two axes, and lines, areas or dots between them.

use super::labels::Labels;
use super::shapes::{Anchor, Color, Picture, Point, Shape, TEXT_HEIGHT, TEXT_WIDTH};

/// Colours that are told apart by most people. Source: Okabe and Ito, "Color Universal Design", 2008.
pub const COLORS: [Color; 7] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (90, 90, 90),
];
/// What is drawn lightly.
pub const LIGHT: Color = (158, 196, 229);
const INK: Color = (40, 40, 40);
const GRID: Color = (225, 225, 225);

/// Pixels around the axes: left, right, above, below.
const MARGIN: (f32, f32, f32, f32) = (70.0, 20.0, 30.0, 40.0);
/// Pixels from one number of an axis to the next, at least.
const TICK_ROOM: f32 = 70.0;

/// How values of an axis lie on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0, evenly.
    Linear,
    /// Each power of ten as long.
    Logarithmic,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it measures, with the unit.
    pub title: String,
    /// How values lie on it.
    pub scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis on which all of these values lie.
    pub fn over(title: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Axis {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite()) {
            most = most.max(value);
            if value > 0.0 {
                least = least.min(value);
            }
        }
        let most = if most > 0.0 { most } else { 1.0 };
        let (from, to) = match scale {
            Scale::Linear => (0.0, most * 1.05),
            Scale::Logarithmic => {
                let least = least.min(most);
                (
                    10_f64.powf(least.log10().floor()),
                    10_f64.powf((most * 1.01).log10().ceil()),
                )
            }
        };
        Axis {
            title: title.to_owned(),
            scale,
            from,
            to,
        }
    }

    /// Where a value lies, from 0 to 1; outside values at the end.
    fn place(&self, value: f64) -> f32 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
        };
        place.clamp(0.0, 1.0) as f32
    }

    /// Values with a number beside them, on an axis of so many pixels.
    fn ticks(&self, pixels: f32) -> Vec<f64> {
        let most = (pixels / TICK_ROOM).max(1.0).floor();
        match self.scale {
            Scale::Linear => {
                let step = round_step((self.to - self.from) / f64::from(most));
                (0..=100)
                    .map(|tick| f64::from(tick) * step)
                    .take_while(|value| *value <= self.to)
                    .collect()
            }
            Scale::Logarithmic => {
                let (from, to) = (self.from.log10().round() as i32, self.to.log10().round() as i32);
                let step = ((f64::from(to - from) / f64::from(most)).ceil() as usize).max(1);
                (from..=to)
                    .step_by(step)
                    .map(|power| 10_f64.powi(power))
                    .collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, not below this.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = digits.into_iter().find(|digit| digit * power >= step * 0.999);
    digit.unwrap_or(10.0) * power
}

/// What is drawn of a row of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line that keeps each value until the next one.
    Steps,
    /// The same, filled down to the axis.
    Area,
    /// A line from value to value.
    Line,
    /// A dot for each, with its label.
    Dots,
}

/// A row of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name, for the legend; empty: it has no place there.
    pub name: String,
    /// How it is drawn.
    pub mark: Mark,
    /// Its colour.
    pub color: Color,
    /// The values.
    pub values: Vec<(f64, f64)>,
    /// What stands beside each dot; fewer than values: beside the first ones.
    pub labels: Vec<String>,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub across: Axis,
    /// From below.
    pub up: Axis,
    /// Drawn one over the other.
    pub series: Vec<Series>,
}

impl Chart {
    /// Charts below one another, each as large as this.
    pub fn stack(charts: &[Chart], (width, height): (u32, u32)) -> Picture {
        let mut shapes = Vec::new();
        for (chart, place) in charts.iter().zip(0_u16..) {
            let top = f32::from(place) * height as f32;
            chart.draw(top, (width as f32, height as f32), &mut shapes);
        }
        let count = u32::try_from(charts.len()).unwrap_or(0).max(1);
        Picture {
            width,
            height: height * count,
            shapes,
        }
    }

    fn draw(&self, top: f32, (width, height): (f32, f32), shapes: &mut Vec<Shape>) {
        let plot = Plot {
            left: MARGIN.0,
            right: width - MARGIN.1,
            top: top + MARGIN.2,
            bottom: top + height - MARGIN.3,
            chart: self,
        };
        plot.grid(shapes);
        for series in &self.series {
            plot.series(series, shapes);
        }
        plot.labels(shapes);
        plot.frame(shapes);
        plot.legend(shapes);
    }
}

/// A chart at its place in the picture.
struct Plot<'a> {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
    chart: &'a Chart,
}

impl Plot<'_> {
    fn x(&self, value: f64) -> f32 {
        self.left + self.chart.across.place(value) * (self.right - self.left)
    }

    fn y(&self, value: f64) -> f32 {
        self.bottom - self.chart.up.place(value) * (self.bottom - self.top)
    }

    fn grid(&self, shapes: &mut Vec<Shape>) {
        for value in self.chart.across.ticks(self.right - self.left) {
            let x = self.x(value);
            shapes.push(line(vec![(x, self.top), (x, self.bottom)], GRID, 1.0));
            shapes.push(text(
                (x, self.bottom + TEXT_HEIGHT),
                Anchor::Middle,
                &number(value),
            ));
        }
        for value in self.chart.up.ticks((self.bottom - self.top) * 2.0) {
            let y = self.y(value);
            shapes.push(line(vec![(self.left, y), (self.right, y)], GRID, 1.0));
            shapes.push(text((self.left - 6.0, y + 4.0), Anchor::End, &number(value)));
        }
    }

    fn series(&self, series: &Series, shapes: &mut Vec<Shape>) {
        let at = |value: &(f64, f64)| (self.x(value.0), self.y(value.1));
        let points: Vec<Point> = series.values.iter().map(at).collect();
        let color = series.color;
        match series.mark {
            Mark::Line => shapes.push(line(points, color, 1.5)),
            Mark::Steps => shapes.push(line(steps(&points), color, 1.5)),
            Mark::Area => {
                let mut points = steps(&points);
                let ends = points.first().copied().zip(points.last().copied());
                points.extend(
                    ends.into_iter()
                        .flat_map(|(first, last)| [(last.0, self.bottom), (first.0, self.bottom)]),
                );
                shapes.push(Shape::Area { points, color });
            }
            Mark::Dots => {
                let dot = |at: &Point| Shape::Dot {
                    at: *at,
                    radius: 4.0,
                    color,
                };
                shapes.extend(points.iter().map(dot));
            }
        }
    }

    /// Beside the dots of all series, none over another.
    fn labels(&self, shapes: &mut Vec<Shape>) {
        let of_dots = |series: &&Series| series.mark == Mark::Dots;
        let at = |value: &(f64, f64)| (self.x(value.0), self.y(value.1));
        let dots = || self.chart.series.iter().filter(of_dots);
        let all: Vec<Point> = dots().flat_map(|series| series.values.iter().map(at)).collect();
        let mut labels = Labels::among(&all, (self.left, self.top), (self.right, self.bottom));
        for series in dots() {
            for (value, label) in series.values.iter().zip(&series.labels) {
                let (place, anchor) = labels.place(at(value), label);
                shapes.push(text(place, anchor, label));
            }
        }
    }

    fn frame(&self, shapes: &mut Vec<Shape>) {
        let corners = vec![
            (self.left, self.top),
            (self.left, self.bottom),
            (self.right, self.bottom),
        ];
        shapes.push(line(corners, INK, 1.0));
        let below = (self.right, self.bottom + TEXT_HEIGHT * 2.0);
        shapes.push(text(below, Anchor::End, &self.chart.across.title));
        let above = (self.left - TEXT_WIDTH * 6.0, self.top - TEXT_HEIGHT * 0.6);
        let title = match self.chart.title.as_str() {
            "" => self.chart.up.title.clone(),
            title => format!("{}  |  {title}", self.chart.up.title),
        };
        shapes.push(text(above, Anchor::Start, &title));
    }

    /// Names in their colours, in the upper right corner, from right to left.
    fn legend(&self, shapes: &mut Vec<Shape>) {
        let mut right = self.right;
        for series in self
            .chart
            .series
            .iter()
            .rev()
            .filter(|series| !series.name.is_empty())
        {
            let at = (right, self.top - TEXT_HEIGHT * 0.6);
            shapes.push(Shape::Text {
                at,
                anchor: Anchor::End,
                text: series.name.clone(),
                color: series.color,
            });
            right -= TEXT_WIDTH * (series.name.chars().count() + 3) as f32;
        }
    }
}

fn line(points: Vec<Point>, color: Color, width: f32) -> Shape {
    Shape::Line { points, color, width }
}

fn text(at: Point, anchor: Anchor, text: &str) -> Shape {
    Shape::Text {
        at,
        anchor,
        text: text.to_owned(),
        color: INK,
    }
}

/// Each value until the next one.
fn steps(points: &[Point]) -> Vec<Point> {
    let mut steps: Vec<Point> = Vec::with_capacity(points.len() * 2);
    for point in points {
        steps.extend(steps.last().map(|last| (point.0, last.1)));
        steps.push(*point);
    }
    steps
}

/// A number in a few characters.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{}M", value / 1e6),
        size if size >= 1e4 => format!("{}k", value / 1e3),
        // Twelve digits show no noise of a sum.
        _ => format!("{}", (value * 1e9).round() / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, values: Vec<(f64, f64)>) -> Chart {
        let axis = |title, of: fn(&(f64, f64)) -> f64| Axis::over(title, scale, values.iter().map(of));
        Chart {
            title: String::new(),
            across: axis("seconds", |value| value.0),
            up: axis("workers", |value| value.1),
            series: vec![Series {
                name: "pool".into(),
                mark: Mark::Steps,
                color: COLORS[0],
                values,
                labels: Vec::new(),
            }],
        }
    }

    fn points(picture: &Picture) -> impl Iterator<Item = Point> {
        picture.shapes.iter().flat_map(|shape| match shape {
            Shape::Line { points, .. } | Shape::Area { points, .. } => points.clone(),
            Shape::Dot { at, .. } | Shape::Text { at, .. } => vec![*at],
        })
    }

    #[test]
    fn everything_is_within_the_picture_whatever_the_values_are() {
        let rows = [
            vec![],
            vec![(0.0, 0.0)],
            vec![(1.0, 1e-9), (1e12, 1e9)],
            vec![(f64::NAN, 1.0), (2.0, f64::INFINITY), (-1.0, -1.0)],
        ];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for values in rows.clone() {
                let picture = Chart::stack(&[chart(scale, values.clone()), chart(scale, values)], (640, 200));
                assert_eq!((picture.width, picture.height), (640, 400));
                for (x, y) in points(&picture).filter(|(x, y)| !x.is_nan() && !y.is_nan()) {
                    assert!(
                        (0.0..=640.0).contains(&x) && (0.0..=400.0).contains(&y),
                        "{x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn ticks_are_round_and_have_room() {
        let axis = Axis::over("", Scale::Linear, [0.0, 23.0].into_iter());
        assert_eq!(axis.ticks(400.0), [0.0, 5.0, 10.0, 15.0, 20.0]);
        let axis = Axis::over("", Scale::Logarithmic, [0.002, 30.0].into_iter());
        assert_eq!(axis.ticks(400.0), [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]);
        assert_eq!([20_000.0, 3e6, 0.1].map(number), ["20k", "3M", "0.1"]);
    }

    #[test]
    fn steps_keep_a_value_until_the_next_one() {
        let expected = [(0.0, 5.0), (2.0, 5.0), (2.0, 1.0)];
        assert_eq!(steps(&[(0.0, 5.0), (2.0, 1.0)]), expected);
    }
}
