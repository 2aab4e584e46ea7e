//! A picture as PNG, at twice its size, so that it is sharp on dense screens.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, PremultipliedColorU8, Stroke, Transform};

use super::shapes::{Anchor, Color, Picture, Point, Shape};

/// Pixels of the file for one of the picture.
const SCALE: u32 = 2;
const FONT: (FontWeight, RasterHeight) = (FontWeight::Regular, RasterHeight::Size24);
/// From the upper edge of a character's raster to its base line, as a share of its height.
const BASE_LINE: f32 = 0.8;

/// Why there is no picture: it is too large, or can't be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw a picture of {width}x{height} pixels")]
pub struct PngError {
    width: u32,
    height: u32,
}

/// The bytes of a PNG file.
///
/// # Errors
/// If the picture has no pixels, or too many.
pub fn encode(picture: &Picture) -> Result<Vec<u8>, PngError> {
    let error = PngError {
        width: picture.width,
        height: picture.height,
    };
    let size = |side: u32| side.checked_mul(SCALE).ok_or(error.clone());
    let pixels = Pixmap::new(size(picture.width)?, size(picture.height)?);
    let mut pixels = pixels.ok_or(error.clone())?;
    pixels.fill(tiny_skia::Color::WHITE);
    for shape in &picture.shapes {
        draw(&mut pixels, shape);
    }
    pixels.encode_png().map_err(|_| error)
}

fn draw(pixels: &mut Pixmap, shape: &Shape) {
    let scale = Transform::from_scale(SCALE as f32, SCALE as f32);
    match shape {
        Shape::Line { points, color, width } => {
            let stroke = Stroke {
                width: *width,
                ..Stroke::default()
            };
            if let Some(path) = path(points, false) {
                pixels.stroke_path(&path, &paint(*color), &stroke, scale, None);
            }
        }
        Shape::Area { points, color } => {
            if let Some(path) = path(points, true) {
                pixels.fill_path(&path, &paint(*color), FillRule::Winding, scale, None);
            }
        }
        Shape::Dot { at, radius, color } => {
            if let Some(path) = PathBuilder::from_circle(at.0, at.1, *radius) {
                pixels.fill_path(&path, &paint(*color), FillRule::Winding, scale, None);
            }
        }
        Shape::Text {
            at,
            anchor,
            text,
            color,
        } => write(pixels, *at, *anchor, text, *color),
    }
}

fn paint((red, green, blue): Color) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

/// `None`: these points make no line.
fn path(points: &[Point], is_closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    let (first, rest) = points.split_first()?;
    path.move_to(first.0, first.1);
    rest.iter().for_each(|(x, y)| path.line_to(*x, *y));
    if is_closed {
        path.close();
    }
    path.finish()
}

/// Blends the characters' rasters into the picture.
fn write(pixels: &mut Pixmap, (x, y): Point, anchor: Anchor, text: &str, color: Color) {
    let advance = get_raster_width(FONT.0, FONT.1);
    let width = (advance * text.chars().count()) as f32;
    let left = x * SCALE as f32
        - match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
    let top = y * SCALE as f32 - FONT.1.val() as f32 * BASE_LINE;
    for (place, character) in text.chars().enumerate() {
        let raster = get_raster(character, FONT.0, FONT.1).or_else(|| get_raster('?', FONT.0, FONT.1));
        let Some(raster) = raster else { continue };
        for (row, line) in raster.rows().enumerate() {
            for (column, ink) in line.iter().enumerate() {
                let at = (
                    left as i64 + (place * advance + column) as i64,
                    top as i64 + row as i64,
                );
                blend(pixels, at, *ink, color);
            }
        }
    }
}

/// So much ink over what is there: 0 is none, 255 covers it.
fn blend(pixels: &mut Pixmap, (x, y): (i64, i64), ink: u8, (red, green, blue): Color) {
    let (width, height) = (i64::from(pixels.width()), i64::from(pixels.height()));
    if ink == 0 || !(0..width).contains(&x) || !(0..height).contains(&y) {
        return;
    }
    let at = usize::try_from(y * width + x).unwrap_or(0);
    let Some(pixel) = pixels.pixels_mut().get_mut(at) else {
        return;
    };
    let mixed = |below: u8, color: u8| {
        let (ink, below, color) = (u32::from(ink), u32::from(below), u32::from(color));
        u8::try_from((below * (255 - ink) + color * ink) / 255).unwrap_or(u8::MAX)
    };
    let mixed = PremultipliedColorU8::from_rgba(
        mixed(pixel.red(), red),
        mixed(pixel.green(), green),
        mixed(pixel.blue(), blue),
        255,
    );
    *pixel = mixed.unwrap_or(*pixel);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_in_the_file() {
        let (red, blue) = ((255, 0, 0), (0, 0, 255));
        let picture = Picture {
            width: 60,
            height: 40,
            shapes: vec![
                Shape::Area {
                    points: vec![(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0)],
                    color: red,
                },
                Shape::Dot {
                    at: (20.0, 5.0),
                    radius: 4.0,
                    color: blue,
                },
                Shape::Text {
                    at: (30.0, 30.0),
                    anchor: Anchor::Middle,
                    text: "M".into(),
                    color: (0, 0, 0),
                },
            ],
        };
        let file = encode(&picture).unwrap();
        let pixels = Pixmap::decode_png(&file).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (120, 80));
        let color = |x, y| {
            let pixel = pixels.pixel(x, y).unwrap();
            (pixel.red(), pixel.green(), pixel.blue())
        };
        assert_eq!(
            (color(5, 5), color(40, 10), color(100, 10)),
            (red, blue, (255, 255, 255))
        );
        let dark = pixels
            .pixels()
            .iter()
            .filter(|pixel| pixel.blue() < 64 && pixel.red() < 64);
        assert!(dark.count() > 10, "the letter has ink");
    }

    #[test]
    fn a_picture_without_pixels_is_an_error() {
        let picture = Picture {
            width: 0,
            height: 10,
            shapes: Vec::new(),
        };
        assert!(encode(&picture).is_err());
    }
}
