//! A picture as SVG.

use std::fmt::Write;

use super::shapes::{Anchor, Color, Picture, Point, Shape, TEXT_HEIGHT};

/// The text of an SVG file.
pub fn encode(picture: &Picture) -> String {
    let (width, height) = (picture.width, picture.height);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"monospace\" font-size=\"{}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        TEXT_HEIGHT * 0.75
    );
    for shape in &picture.shapes {
        // Writing into a string does not fail.
        let _ = match shape {
            Shape::Line { points, color, width } => writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\"/>",
                listed(points),
                hex(*color)
            ),
            Shape::Area { points, color } => {
                writeln!(
                    svg,
                    "<polygon points=\"{}\" fill=\"{}\"/>",
                    listed(points),
                    hex(*color)
                )
            }
            Shape::Dot {
                at: (x, y),
                radius,
                color,
            } => {
                writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>",
                    hex(*color)
                )
            }
            Shape::Text {
                at: (x, y),
                anchor,
                text,
                color,
            } => writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{}\" fill=\"{}\">{}</text>",
                match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                },
                hex(*color),
                escaped(text)
            ),
        };
    }
    svg.push_str("</svg>\n");
    svg
}

fn listed(points: &[Point]) -> String {
    let points = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}"));
    points.collect::<Vec<_>>().join(" ")
}

fn hex((red, green, blue): Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// What XML would take for markup, and characters that it does not allow.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let picture = Picture {
            width: 10,
            height: 10,
            shapes: vec![Shape::Text {
                at: (1.0, 2.0),
                anchor: Anchor::End,
                text: "<a href=\"x\">&\u{1b}[1m".into(),
                color: (0, 0, 255),
            }],
        };
        let svg = encode(&picture);
        assert!(
            svg.contains("fill=\"#0000ff\">&lt;a href=&quot;x&quot;&gt;&amp; [1m</text>"),
            "{svg}"
        );
    }
}
