//! Samples, medians and the table. It knows no party.

use std::time::Duration;

/// How often and how long each cell is measured.
pub struct Plan {
    pub runs: usize,
    pub millis: u64,
}

impl Plan {
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// One measurement: the latency of every call, and how long all of them took.
pub struct Sample {
    pub nanos: Vec<u64>,
    pub wall: Duration,
}

/// What a party reached, as medians over the runs.
#[derive(Clone, Copy)]
pub struct Figure {
    pub p50_us: f64,
    pub p99_us: f64,
    pub per_second: f64,
}

impl Sample {
    fn figure(mut self) -> Figure {
        assert!(!self.nanos.is_empty(), "no call was answered");
        self.nanos.sort_unstable();
        let at = |share: usize| self.nanos[(self.nanos.len() - 1) * share / 100] as f64 / 1000.0;
        Figure {
            p50_us: at(50),
            p99_us: at(99),
            per_second: self.nanos.len() as f64 / self.wall.as_secs_f64(),
        }
    }
}

/// A party that can be measured again and again.
pub type Party<'a> = (&'a str, Box<dyn FnMut() -> Sample + 'a>);

/// Measures the parties in turns: A B A B …, after one turn that is thrown away.
pub fn in_turns(plan: &Plan, parties: &mut [Party<'_>]) -> Vec<Figure> {
    let mut figures: Vec<Vec<Figure>> = parties.iter().map(|_| Vec::new()).collect();
    for turn in 0..=plan.runs {
        for (index, (_, party)) in parties.iter_mut().enumerate() {
            let figure = party().figure();
            if turn > 0 {
                figures[index].push(figure);
            }
        }
    }
    figures.into_iter().map(|figures| median_figure(&figures)).collect()
}

fn median_figure(figures: &[Figure]) -> Figure {
    let of = |pick: fn(&Figure) -> f64| median(figures.iter().map(pick).collect());
    Figure {
        p50_us: of(|figure| figure.p50_us),
        p99_us: of(|figure| figure.p99_us),
        per_second: of(|figure| figure.per_second),
    }
}

/// The median of some numbers.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Prints a heading.
pub fn heading(text: &str) {
    println!("\n{text}");
    println!(
        "  {:<44} {:>10} {:>10} {:>12} {:>9} {:>9}",
        "", "p50 µs", "p99 µs", "calls/s", "p50 ×", "calls/s ×"
    );
}

/// Prints one line for each party; ratios are to the first.
pub fn rows(parties: &[Party<'_>], figures: &[Figure]) {
    let anchor = figures[0];
    for ((name, _), figure) in parties.iter().zip(figures) {
        println!(
            "  {name:<44} {:>10.1} {:>10.1} {:>12.0} {:>9.2} {:>9.2}",
            figure.p50_us,
            figure.p99_us,
            figure.per_second,
            figure.p50_us / anchor.p50_us,
            figure.per_second / anchor.per_second,
        );
    }
}
