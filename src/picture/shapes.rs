//! What a picture is drawn of.

/// A colour, red, green and blue.
pub type Color = (u8, u8, u8);

/// A point in pixels, from the upper left corner.
pub type Point = (f32, f32);

/// Where a text stands at its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// One thing to draw.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<Point>,
        /// Its colour.
        color: Color,
        /// Its width in pixels.
        width: f32,
    },
    /// A filled area within points.
    Area {
        /// The points.
        points: Vec<Point>,
        /// Its colour.
        color: Color,
    },
    /// A filled circle.
    Dot {
        /// Its middle.
        at: Point,
        /// Its radius in pixels.
        radius: f32,
        /// Its colour.
        color: Color,
    },
    /// A line of text.
    Text {
        /// On its base line.
        at: Point,
        /// Where it stands there.
        anchor: Anchor,
        /// The text.
        text: String,
        /// Its colour.
        color: Color,
    },
}

/// A picture on white.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// What is drawn, one over the other.
    pub shapes: Vec<Shape>,
}

/// Height of a line of text, in pixels.
pub const TEXT_HEIGHT: f32 = 16.0;
/// Width of a character, in pixels: all are as wide.
pub const TEXT_WIDTH: f32 = 7.0;
