//! Where labels of dots stand, so that none covers another or a dot.

use super::shapes::{Anchor, Point, TEXT_HEIGHT, TEXT_WIDTH};

/// From the middle of a dot to the edges of what it covers.
const DOT: f32 = 5.0;
/// From the middle of a dot to its label.
const BESIDE: f32 = 8.0;
/// Of a line of text, how much is above the line that it stands on.
const ASCENT: f32 = TEXT_HEIGHT * 0.75;
/// Rows of text above and below a dot in which its label may stand.
const ROWS: i8 = 4;

/// A rectangle: left, top, right, below.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area(f32, f32, f32, f32);

impl Area {
    fn of_dot((x, y): Point) -> Self {
        Area(x - DOT, y - DOT, x + DOT, y + DOT)
    }

    fn of_text((x, y): Point, anchor: Anchor, text: &str) -> Self {
        let width = TEXT_WIDTH * text.chars().count() as f32;
        let left = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        Area(left, y - ASCENT, left + width, y - ASCENT + TEXT_HEIGHT)
    }

    fn shared_with(&self, other: &Area) -> f32 {
        let across = self.2.min(other.2) - self.0.max(other.0);
        let up = self.3.min(other.3) - self.1.max(other.1);
        across.max(0.0) * up.max(0.0)
    }

    fn is_within(&self, other: &Area) -> bool {
        self.0 >= other.0 && self.1 >= other.1 && self.2 <= other.2 && self.3 <= other.3
    }
}

/// What is taken in a plot, and its bounds.
#[derive(Debug)]
pub(super) struct Labels {
    bounds: Area,
    taken: Vec<Area>,
}

impl Labels {
    /// Those of a plot between these corners, the left upper one and the right lower one, with these dots.
    pub(super) fn among(dots: &[Point], (left, top): Point, (right, bottom): Point) -> Self {
        Labels {
            bounds: Area(left, top, right, bottom),
            taken: dots.iter().copied().map(Area::of_dot).collect(),
        }
    }

    /// Where the label of a dot stands: at the nearest place that is free, else where it covers the least.
    pub(super) fn place(&mut self, dot: Point, text: &str) -> (Point, Anchor) {
        let covered = |area: &Area| {
            self.taken
                .iter()
                .map(|taken| area.shared_with(taken))
                .sum::<f32>()
        };
        let best = places(dot)
            .map(|(at, anchor)| (at, anchor, Area::of_text(at, anchor, text)))
            .filter(|(_, _, area)| area.is_within(&self.bounds))
            .map(|place| (covered(&place.2), place))
            // Of equals, the first one.
            .min_by(|one, other| one.0.total_cmp(&other.0))
            .map(|(_, place)| place);
        let (at, anchor) = (
            (dot.0 + BESIDE, dot.1 + ASCENT - TEXT_HEIGHT / 2.0),
            Anchor::Start,
        );
        // No place is within the bounds of a very small plot.
        let (at, anchor, area) = best.unwrap_or((at, anchor, Area::of_text(at, anchor, text)));
        self.taken.push(area);
        (at, anchor)
    }
}

/// The places for a label, the nearest first: at each height to the right, to the left and in the middle.
fn places((x, y): Point) -> impl Iterator<Item = (Point, Anchor)> {
    let rows = (0..=ROWS).flat_map(|row| [-row, row]);
    rows.flat_map(move |row| {
        let at = y + ASCENT - TEXT_HEIGHT / 2.0 + f32::from(row) * TEXT_HEIGHT * 0.75;
        [
            ((x + BESIDE, at), Anchor::Start),
            ((x - BESIDE, at), Anchor::End),
            ((x, at), Anchor::Middle),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(dots: &[Point]) -> Vec<Area> {
        let mut labels = Labels::among(dots, (0.0, 0.0), (600.0, 400.0));
        let place = |dot: &Point| {
            let (at, anchor) = labels.place(*dot, "ten chars!");
            Area::of_text(at, anchor, "ten chars!")
        };
        dots.iter().map(place).collect()
    }

    #[test]
    fn a_label_stands_to_the_right_of_a_dot_that_is_alone() {
        let mut labels = Labels::among(&[(100.0, 100.0)], (0.0, 0.0), (600.0, 400.0));
        let (at, anchor) = labels.place((100.0, 100.0), "alone");
        assert_eq!((at.0, anchor), (108.0, Anchor::Start));
    }

    #[test]
    fn no_label_covers_another_or_a_dot_where_there_is_room() {
        let dots: Vec<Point> = [
            (300.0, 200.0),
            (303.0, 201.0),
            (310.0, 199.0),
            (340.0, 202.0),
            (590.0, 200.0),
            (5.0, 390.0),
        ]
        .into();
        let areas = placed(&dots);
        for (at, area) in areas.iter().enumerate() {
            let others = areas.iter().skip(at + 1).copied();
            for other in others.chain(dots.iter().copied().map(Area::of_dot)) {
                assert_eq!(area.shared_with(&other), 0.0, "{area:?} {other:?}");
            }
            assert!(area.is_within(&Area(0.0, 0.0, 600.0, 400.0)), "{area:?}");
        }
    }

    #[test]
    fn labels_of_many_dots_at_one_place_are_within_the_plot() {
        let areas = placed(&[(300.0, 200.0); 60]);
        assert!(
            areas
                .iter()
                .all(|area| area.is_within(&Area(0.0, 0.0, 600.0, 400.0)))
        );
    }
}
