//! Several runs on each side of a comparison: how much more runs of the same program differ than
//! samples of one run, and what that makes of a change.
//!
//! Samples of one run are not independent, and runs differ by layout, frequency and load. The
//! variance of a share between runs is the binomial one times a dispersion (P. McCullagh and J. A.
//! Nelder, "Generalized Linear Models", 1989, section 4.5: overdispersion), estimated by Pearson's
//! chi-square over its degrees of freedom. Few runs estimate it badly, so the estimate of a
//! function is moderated by that of all functions (as in G. K. Smyth, Statistical Applications in
//! Genetics and Molecular Biology 3, 2004), and the test uses Student's distribution.
//!
//! Not here: which functions are compared ([`super::diff`]).

use super::statistics::{Share, probability, student_two_sided};

/// How many degrees of freedom the dispersion of all functions counts for.
const PRIOR_FREEDOM: f64 = 4.0;
/// Functions with fewer expected samples in a run tell nothing about the dispersion.
const MIN_EXPECTED: f64 = 5.0;

/// The shares of one function in each run of both sides.
#[derive(Clone, Debug, Default)]
pub struct RunShares {
    /// Of the base's runs, and of the new program's runs.
    pub sides: [Vec<Share>; 2],
}

/// Pearson's chi-square of a function's runs, and its degrees of freedom.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ChiSquare {
    sum: f64,
    freedom: f64,
}

impl RunShares {
    fn chi_square(&self) -> ChiSquare {
        let mut chi = ChiSquare::default();
        for runs in &self.sides {
            let of: f64 = runs.iter().map(|share| share.of).sum();
            let hits: f64 = runs.iter().map(|share| share.part * share.of).sum();
            let part = if of > 0.0 { hits / of } else { 0.0 };
            let least = runs.iter().map(|share| share.of).fold(f64::INFINITY, f64::min);
            if runs.len() < 2 || part <= 0.0 || part >= 1.0 || least * part.min(1.0 - part) < MIN_EXPECTED {
                continue;
            }
            let term = |share: &Share| (share.part - part).powi(2) * share.of / (part * (1.0 - part));
            chi.sum += runs.iter().map(term).sum::<f64>();
            chi.freedom += runs.len() as f64 - 1.0;
        }
        chi
    }
}

/// The dispersion of a function, at least 1, and the degrees of freedom of its estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dispersion {
    /// The factor by which the variance exceeds the binomial one.
    pub factor: f64,
    /// The degrees of freedom.
    pub freedom: f64,
}

/// The dispersions of functions, in the same order. `None`: no side has several runs.
pub fn dispersions(functions: &[RunShares]) -> Option<Vec<Dispersion>> {
    if !functions.iter().any(|function| function.sides.iter().any(|runs| runs.len() > 1)) {
        return None;
    }
    let each: Vec<ChiSquare> = functions.iter().map(RunShares::chi_square).collect();
    let (sum, freedom) = each.iter().fold((0.0, 0.0), |all, chi| (all.0 + chi.sum, all.1 + chi.freedom));
    let common = if freedom > 0.0 { (sum / freedom).max(1.0) } else { 1.0 };
    let moderated = |chi: &ChiSquare| Dispersion {
        factor: ((PRIOR_FREEDOM * common + chi.sum) / (PRIOR_FREEDOM + chi.freedom)).max(1.0),
        freedom: PRIOR_FREEDOM + chi.freedom,
    };
    Some(each.iter().map(moderated).collect())
}

impl Dispersion {
    /// The share with the sample size that it is worth.
    pub fn of(self, share: Share) -> Share {
        Share { of: share.of / self.factor, ..share }
    }

    /// The probability of a difference at least this large by chance alone; the shares are those
    /// that [`Dispersion::of`] returned.
    pub fn probability(self, base: Share, new: Share) -> f64 {
        let variance = |share: Share| {
            // Of no hits, the variance is that of half a hit.
            let least = 0.5 / share.of.max(1.0);
            let part = share.part.clamp(least, 1.0 - least);
            part * (1.0 - part) / share.of.max(1.0)
        };
        let t = (new.part - base.part) / (variance(base) + variance(new)).sqrt();
        student_two_sided(t, self.freedom).max(probability(base, new))
    }
}

/// How the mean total of runs changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TotalChange {
    /// The geometric mean of the new totals over that of the base's.
    pub ratio: f64,
    /// The probability of a change at least this large by chance alone.
    pub p: f64,
}

/// Compares the totals of runs by Student's t-test of their logarithms with pooled variance.
/// `None`: a side has fewer than two runs, or a total that is not positive.
pub fn total_change(base: &[f64], new: &[f64]) -> Option<TotalChange> {
    if base.len() < 2 || new.len() < 2 || base.iter().chain(new).any(|total| *total <= 0.0) {
        return None;
    }
    let logs = |totals: &[f64]| totals.iter().map(|total| total.ln()).collect::<Vec<f64>>();
    let mean = |logs: &[f64]| logs.iter().sum::<f64>() / logs.len() as f64;
    let squares = |logs: &[f64], mean: f64| logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
    let (base, new) = (logs(base), logs(new));
    let (base_mean, new_mean) = (mean(&base), mean(&new));
    let freedom = (base.len() + new.len() - 2) as f64;
    let variance = (squares(&base, base_mean) + squares(&new, new_mean)) / freedom;
    let error = (variance * (1.0 / base.len() as f64 + 1.0 / new.len() as f64)).sqrt();
    let change = new_mean - base_mean;
    let p = match (error > 0.0, change == 0.0) {
        (true, _) => student_two_sided(change / error, freedom),
        (false, is_equal) => f64::from(u8::from(is_equal)),
    };
    Some(TotalChange { ratio: change.exp(), p })
}

#[cfg(test)]
mod tests {
    use super::{super::statistics::q_values, *};

    /// Numbers between 0 and 1 that look random and are the same in each run (xorshift).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Normally distributed (Box and Muller).
        fn normal(&mut self) -> f64 {
            (-2.0 * self.next().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
        }
    }

    const FUNCTIONS: usize = 30;
    const SAMPLES: usize = 2000;

    /// The shares of each function in a run: the program's shares, each off by some per cent in
    /// this run, and the chance of sampling.
    fn run(shares: &[f64], spread: f64, random: &mut Random) -> Vec<Share> {
        let own: Vec<f64> = shares.iter().map(|share| share * (spread * random.normal()).exp()).collect();
        let sum: f64 = own.iter().sum();
        let mut hits = vec![0.0; own.len()];
        for _ in 0..SAMPLES {
            let mut at = random.next() * sum;
            let found = own.iter().position(|share| {
                at -= share;
                at < 0.0
            });
            hits[found.unwrap_or(0)] += 1.0;
        }
        hits.into_iter().map(|hits| Share::new(hits, SAMPLES as f64)).collect()
    }

    /// The functions that a comparison of so many runs on each side finds significant.
    fn found<const RUNS: usize>(base: &[f64], new: &[f64], random: &mut Random) -> Vec<usize> {
        let sides = [base, new].map(|shares| [(); RUNS].map(|()| run(shares, 0.05, random)));
        let functions: Vec<RunShares> = (0..FUNCTIONS)
            .map(|at| RunShares {
                sides: sides.each_ref().map(|runs| runs.iter().map(|run| run[at]).collect()),
            })
            .collect();
        let dispersions = dispersions(&functions).expect("several runs");
        let pooled = |runs: &[Share]| {
            let hits = runs.iter().map(|share| share.part * share.of).sum();
            Share::new(hits, runs.iter().map(|share| share.of).sum())
        };
        let p: Vec<f64> = (functions.iter().zip(dispersions))
            .map(|(function, dispersion)| {
                let [base, new] = function.sides.each_ref().map(|runs| dispersion.of(pooled(runs)));
                dispersion.probability(base, new)
            })
            .collect();
        let q = q_values(&p);
        (0..FUNCTIONS).filter(|at| q[*at] < 0.05).collect()
    }

    fn program() -> Vec<f64> {
        // The shares of real programs fall about like this.
        let weights: Vec<f64> = (0..FUNCTIONS).map(|at| 1.0 / (at as f64 + 2.0)).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    #[test]
    fn runs_of_the_same_program_rarely_differ_significantly() {
        let (mut random, program) = (Random(88_172_645_463_325_252), program());
        let mut alarms = [0; 2];
        for _ in 0..200 {
            alarms[0] += usize::from(!found::<3>(&program, &program, &mut random).is_empty());
            alarms[1] += usize::from(!found::<5>(&program, &program, &mut random).is_empty());
        }
        assert!(alarms.iter().all(|alarms| *alarms <= 10), "{alarms:?} of 200 comparisons alarm");
    }

    #[test]
    fn a_planted_change_of_ten_points_is_found() {
        let (mut random, program) = (Random(88_172_645_463_325_252), program());
        let mut changed = program.clone();
        // So that its share is ten points larger; the others shrink a little.
        let share = program[5] + 0.1;
        changed[5] = share * (1.0 - program[5]) / (1.0 - share);
        let mut finds = [0; 2];
        for _ in 0..200 {
            finds[0] += usize::from(found::<3>(&program, &changed, &mut random).contains(&5));
            finds[1] += usize::from(found::<5>(&program, &changed, &mut random).contains(&5));
        }
        assert!(finds.iter().all(|finds| *finds >= 190), "found in {finds:?} of 200 comparisons");
    }

    /// In how many of 200 comparisons of five with five runs the total changed significantly
    /// (p < 0.01, as in `rprof compare`), where runs of one program differ by 2 %.
    fn total_changes(factor: f64) -> usize {
        let mut random = Random(88_172_645_463_325_252);
        let mut totals = |factor: f64| [(); 5].map(|()| factor * (0.02 * random.normal()).exp());
        let changes = (0..200).map(|_| total_change(&totals(1.0), &totals(factor)).expect("five runs"));
        changes.filter(|change| change.p < 0.01).count()
    }

    #[test]
    fn the_total_of_equal_programs_rarely_changes_and_ten_per_cent_more_is_found() {
        let (alarms, finds) = (total_changes(1.0), total_changes(1.1));
        assert!(alarms <= 10, "{alarms} of 200 comparisons alarm");
        assert!(finds >= 190, "found in {finds} of 200 comparisons");
    }

    #[test]
    fn a_change_of_totals_needs_two_runs_on_each_side() {
        assert_eq!(total_change(&[1.0], &[2.0, 2.0]), None);
        assert_eq!(total_change(&[1.0, 0.0], &[2.0, 2.0]), None);
        let same = total_change(&[1.0, 1.0], &[1.0, 1.0]).expect("two runs");
        assert_eq!((same.ratio, same.p), (1.0, 1.0));
        let change = total_change(&[1.0, 1.1, 0.9], &[2.0, 2.2, 1.8]).expect("three runs");
        assert!((change.ratio - 2.0).abs() < 1e-9 && change.p < 0.01, "{change:?}");
    }

    #[test]
    fn one_run_on_each_side_has_no_dispersion() {
        let share = Share::new(3.0, 10.0);
        assert_eq!(dispersions(&[RunShares { sides: [vec![share], vec![share]] }]), None);
    }

    #[test]
    fn runs_that_are_alike_have_the_binomial_variance() {
        let alike = RunShares { sides: [vec![Share::new(30.0, 100.0); 3], vec![Share::new(40.0, 100.0); 3]] };
        let dispersions = dispersions(&[alike]).expect("several runs");
        assert_eq!(dispersions, [Dispersion { factor: 1.0, freedom: 8.0 }]);
    }
}
