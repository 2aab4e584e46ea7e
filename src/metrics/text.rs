//! The text formats of Prometheus. Pure.
//!
//! Sources: Prometheus, "Exposition formats", text format 0.0.4; OpenMetrics 1.0.0.

use std::fmt::Write;

use crate::fleet::histogram::Histogram;

/// How metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text format 0.0.4, which everybody reads.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client that sends this `Accept` header gets: OpenMetrics if it names that without refusing it.
    pub fn accepted(accept: &str) -> Self {
        let is_open = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next() == Some("application/openmetrics-text");
            let is_refused = |part: &str| matches!(part.strip_prefix("q=").map(str::parse), Some(Ok(0.0)));
            let is_known = |part: &str| !part.starts_with("version=") || part == "version=1.0.0";
            is_named && parts.all(|part| is_known(part) && !is_refused(part))
        };
        if accept.split(',').any(is_open) {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows; its name ends with `_total`.
    Counter,
    /// How values are spread.
    Histogram,
}

impl Kind {
    /// As the format names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric with all its labels, and how its samples are read from a picture `P`.
#[derive(Debug)]
pub struct Family<P> {
    /// Its name, of a counter with `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means, in one line without quotes or backslashes.
    pub help: &'static str,
    /// Adds its samples.
    pub read: fn(&P, &mut Samples<'_>),
}

impl<P> Family<P> {
    /// The base unit that the name ends with, if it has one.
    pub fn unit(&self) -> Option<&'static str> {
        let name = self.name.trim_end_matches("_total");
        ["seconds", "bytes", "ratio"]
            .into_iter()
            .find(|unit| name.ends_with(unit))
    }
}

/// The samples of one family on their way into the text.
#[derive(Debug)]
pub struct Samples<'t> {
    name: &'static str,
    out: &'t mut String,
}

/// Names and values of labels.
pub type Labels<'l> = [(&'static str, &'l str)];

impl Samples<'_> {
    /// Adds one sample.
    pub fn add(&mut self, labels: &Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// Adds a count.
    pub fn count(&mut self, labels: &Labels<'_>, count: u64) {
        self.add(labels, count as f64);
    }

    /// Adds all buckets of a histogram, its sum and its count.
    pub fn histogram(&mut self, labels: &Labels<'_>, histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            self.line("_bucket", labels, Some(bound), count as f64);
        }
        let count = histogram.count() as f64;
        self.line("_bucket", labels, Some(f64::INFINITY), count);
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, bound: Option<f64>, value: f64) {
        let out = &mut *self.out;
        out.push_str(self.name);
        out.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels {
            let _ = write!(out, "{before}{name}=\"");
            escape(value, out);
            out.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(out, "{before}le=\"{}\"", number(bound, true));
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
        let _ = writeln!(out, " {}", number(value, false));
    }
}

/// A number as both formats read it; a bound has its point even where it is whole, so that it is one label in both.
fn number(value: f64, is_bound: bool) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if is_bound {
        format!("{value:?}")
    } else {
        value.to_string()
    }
}

/// A label's value: backslash, quote and line break are escaped, everything else stands for itself.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// All families of a picture, in their order.
pub fn write<'f, P: 'f>(
    families: impl Iterator<Item = &'f Family<P>>,
    picture: &P,
    format: Format,
) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for family in families {
        let name = match format {
            Format::Prometheus => family.name,
            // There the suffix is a sample's, not the family's.
            Format::OpenMetrics => family.name.trim_end_matches("_total"),
        };
        let _ = writeln!(out, "# HELP {name} {}", family.help);
        let _ = writeln!(out, "# TYPE {name} {}", family.kind.as_str());
        if let (Format::OpenMetrics, Some(unit)) = (format, family.unit()) {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
        let mut samples = Samples {
            name: family.name,
            out: &mut out,
        };
        (family.read)(picture, &mut samples);
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family<String>; 3] = [
        Family {
            name: "x_size_bytes",
            kind: Kind::Gauge,
            help: "A size",
            read: |task, samples| {
                samples.add(&[("task", task), ("pool", "p")], 0.5);
                samples.add(&[], f64::INFINITY);
            },
        },
        Family {
            name: "x_jobs_total",
            kind: Kind::Counter,
            help: "Jobs",
            read: |_, samples| samples.count(&[("pool", "p")], 12_345_678_901),
        },
        Family {
            name: "x_wait_seconds",
            kind: Kind::Histogram,
            help: "Waits",
            read: |_, samples| {
                let mut waits = Histogram::of_jobs();
                [1.0, 3.0, 99_999.0].iter().for_each(|wait| waits.record(*wait));
                samples.histogram(&[("pool", "p")], &waits);
            },
        },
    ];

    fn written(task: &str, format: Format) -> String {
        write(FAMILIES.iter(), &task.to_owned(), format)
    }

    #[test]
    fn the_text_format_of_prometheus() {
        let text = written("a", Format::Prometheus);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..9],
            [
                "# HELP x_size_bytes A size",
                "# TYPE x_size_bytes gauge",
                "x_size_bytes{task=\"a\",pool=\"p\"} 0.5",
                "x_size_bytes +Inf",
                "# HELP x_jobs_total Jobs",
                "# TYPE x_jobs_total counter",
                "x_jobs_total{pool=\"p\"} 12345678901",
                "# HELP x_wait_seconds Waits",
                "# TYPE x_wait_seconds histogram",
            ]
        );
        for line in [
            "x_wait_seconds_bucket{pool=\"p\",le=\"1.0\"} 1",
            "x_wait_seconds_bucket{pool=\"p\",le=\"5.0\"} 2",
            "x_wait_seconds_bucket{pool=\"p\",le=\"+Inf\"} 3",
            "x_wait_seconds_sum{pool=\"p\"} 100003",
            "x_wait_seconds_count{pool=\"p\"} 3",
        ] {
            assert!(lines.contains(&line), "{line}\n{text}");
        }
    }

    #[test]
    fn openmetrics_has_units_families_without_total_and_an_end() {
        let text = written("a", Format::OpenMetrics);
        for part in [
            "# TYPE x_jobs counter\nx_jobs_total{pool=\"p\"} 12345678901\n",
            "# UNIT x_size_bytes bytes\n",
            "# UNIT x_wait_seconds seconds\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn a_name_can_not_break_out_of_its_label() {
        let text = written("a\"} 1\nevil{x=\"\\", Format::Prometheus);
        assert!(
            text.contains("{task=\"a\\\"} 1\\nevil{x=\\\"\\\\\",pool=\"p\"} 0.5\n"),
            "{text}"
        );
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let open = "application/openmetrics-text";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            (
                &*format!("{open};version=1.0.0;q=0.5,text/plain;q=0.3"),
                Format::OpenMetrics,
            ),
            (&format!("text/plain, {open}"), Format::OpenMetrics),
            (&format!("{open};q=0, text/plain"), Format::Prometheus),
            (&format!("{open}; version=2.0.0"), Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
