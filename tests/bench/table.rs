//! The results: a Markdown table, figure by figure.

use std::fmt;
use std::time::Duration;

/// Rows in the order in which they were measured.
#[derive(Default)]
pub struct Table(Vec<[String; 4]>);

impl Table {
    /// Adds a figure: what was measured, how much is wanted, and how far it is from there.
    pub fn row(&mut self, figure: &str, measured: String, target: &str, ratio: String) {
        eprintln!("  {figure}: {measured} {ratio}");
        self.0.push([figure.to_owned(), measured, target.to_owned(), ratio]);
    }

    /// Adds a figure that must not be larger than `limit`.
    pub fn at_most(&mut self, figure: &str, measured: f64, limit: f64, unit: &str) {
        let ratio = format!("{:.2} × the target", measured / limit);
        self.row(figure, format!("{measured:.2} {unit}"), &format!("≤ {limit} {unit}"), ratio);
    }

    /// Adds a figure that must not be smaller than `limit`.
    pub fn at_least(&mut self, figure: &str, measured: f64, limit: f64, unit: &str) {
        let ratio = format!("{:.2} × the target", measured / limit);
        self.row(figure, format!("{measured:.0} {unit}"), &format!("≥ {limit} {unit}"), ratio);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| figure | measured | target | ratio |\n| --- | --- | --- | --- |")?;
        self.0
            .iter()
            .try_for_each(|row| writeln!(f, "| {} |", row.each_ref().map(|cell| cell.replace('|', "\\|")).join(" | ")))
    }
}

/// The one in the middle.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers can be compared"));
    sorted[sorted.len() / 2]
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
