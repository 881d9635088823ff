//! Whether the difference of two shares is statistically significant, and its confidence interval.
//!
//! Not here: which shares are compared ([`super::diff`]).
//!
//! A profile is a statistical sample: a function with 12 of 500 samples has about 2.4 %. Methods:
//! - the interval of a difference is Newcombe's hybrid score interval (method 10), built from two
//!   Wilson intervals: R. G. Newcombe, "Interval estimation for the difference between independent
//!   proportions", Statistics in Medicine 17 (1998), 873-890. Unlike the Wald interval it is
//!   accurate near 0 % and 100 %, where most functions are;
//! - the p-value is that of the two-proportion z-test with pooled variance, times (N-1)/N (I.
//!   Campbell, Statistics in Medicine 26 (2007), 3661-3675); where an expected count is less than
//!   five, an exact conditional test: given the total, its distribution over the two profiles;
//! - many functions are tested at once: q-values control the false discovery rate (Y. Benjamini and
//!   Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995), 289-300);
//! - samples of unequal weight carry less information: the sample size is the effective one, from
//!   the variance of a ratio of weighted sums (L. Kish, "Survey Sampling", 1965).

/// 95 % of the normal distribution are within this many standard deviations.
pub const Z_95: f64 = 1.959_963_984_540_054;
/// If an expected count is less than this, the normal distribution is not a good approximation.
const MIN_EXPECTED: f64 = 5.0;

/// A share with its sample size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The share, 0 to 1.
    pub part: f64,
    /// The effective sample size: how many samples of equal weight carry as much information.
    pub of: f64,
}

impl Share {
    /// `hits` of `of` samples.
    pub fn new(hits: f64, of: f64) -> Share {
        Share { part: if of > 0.0 { hits / of } else { 0.0 }, of }
    }

    /// The share of weighted samples: `sum` and `squares` are the sums of the weights and squared
    /// weights of the hits, `total` and `total_squares` those of all samples.
    pub fn weighted(sum: f64, squares: f64, total: f64, total_squares: f64) -> Share {
        if total <= 0.0 || total_squares <= 0.0 {
            return Share { part: 0.0, of: 0.0 };
        }
        let part = (sum / total).clamp(0.0, 1.0);
        let all = total * total / total_squares;
        let others = (total_squares - squares).max(0.0);
        let variance = ((1.0 - part).powi(2) * squares + part * part * others) / (total * total);
        let of = if variance > 0.0 { part * (1.0 - part) / variance } else { all };
        // At 0 and 1, and near them because of rounding, the formula is undefined.
        Share { part, of: if of > 0.0 { of } else { all } }
    }

    fn hits(self) -> f64 {
        self.part * self.of
    }

    /// Wilson's score interval.
    pub fn wilson(self, z: f64) -> (f64, f64) {
        if self.of <= 0.0 {
            return (0.0, 1.0);
        }
        let square = z * z / self.of;
        let middle = self.part + square / 2.0;
        let half = z * (self.part * (1.0 - self.part) / self.of + square / (4.0 * self.of)).sqrt();
        let bound = |at: f64| (at / (1.0 + square)).clamp(0.0, 1.0);
        (bound(middle - half), bound(middle + half))
    }
}

/// Newcombe's interval of `new - base`.
pub fn interval(base: Share, new: Share, z: f64) -> (f64, f64) {
    let difference = new.part - base.part;
    let ((base_low, base_high), (new_low, new_high)) = (base.wilson(z), new.wilson(z));
    let below = (new.part - new_low).hypot(base_high - base.part);
    let above = (new_high - new.part).hypot(base.part - base_low);
    ((difference - below).max(-1.0), (difference + above).min(1.0))
}

/// The p-value: the probability of a difference at least this large by chance alone.
pub fn probability(base: Share, new: Share) -> f64 {
    let all = base.of + new.of;
    if base.of <= 0.0 || new.of <= 0.0 {
        return 1.0;
    }
    let (hits, misses) = (base.hits() + new.hits(), all - base.hits() - new.hits());
    let rare = hits.min(misses);
    if rare * base.of.min(new.of) / all < MIN_EXPECTED {
        // The count of the rarer outcome in the new profile.
        let on_new = if hits <= misses { new.hits() } else { new.of - new.hits() };
        return binomial(on_new.round(), rare.round(), new.of / all);
    }
    let pooled = hits / all;
    let variance = pooled * (1.0 - pooled) * (1.0 / base.of + 1.0 / new.of);
    let z = (new.part - base.part) / variance.sqrt();
    two_sided(z * ((all - 1.0).max(0.0) / all).sqrt())
}

/// The part of Student's t distribution with `freedom` degrees of freedom beyond `t`, on both
/// sides.
pub fn student_two_sided(t: f64, freedom: f64) -> f64 {
    let x = freedom / (freedom + t * t);
    incomplete_beta(freedom / 2.0, 0.5, x)
}

/// The regularized incomplete beta function, by its continued fraction (W. H. Press et al.,
/// "Numerical Recipes", section 6.4, Lentz's method).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let log = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (1.0 - x).ln();
    if x < (a + 1.0) / (a + b + 2.0) {
        log.exp() * beta_fraction(a, b, x) / a
    } else {
        1.0 - log.exp() * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const STEPS: u32 = 300;
    const TINY: f64 = 1e-300;
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    for step in 1..=STEPS {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = value;
        for term in [even, odd] {
            d = 1.0 / nonzero(1.0 + term * d);
            c = nonzero(1.0 + term / c);
            value *= d * c;
        }
        if (value - before).abs() < 1e-14 * value.abs() {
            break;
        }
    }
    value
}

/// The part of the normal distribution beyond `z`, on both sides.
fn two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// Two-sided exact test of `hits` of `of` against the probability `chance`: twice the smaller tail.
fn binomial(hits: f64, of: f64, chance: f64) -> f64 {
    if of <= 0.0 {
        return 1.0;
    }
    // The outcome is rare, or one profile is much smaller, so the tail is short.
    const MAX_TERMS: f64 = 100_000.0;
    let term = |k: f64| {
        let choose = libm::lgamma(of + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(of - k + 1.0);
        (choose + k * chance.ln() + (of - k) * (1.0 - chance).ln()).exp()
    };
    let sum = |from: f64, to: f64| {
        let count = (to - from + 1.0).clamp(0.0, MAX_TERMS) as u32;
        (0..count).map(|at| term(from + f64::from(at))).sum::<f64>()
    };
    // The shorter tail is summed; the other one is the rest plus the common term.
    let expected = of * chance;
    let tail = if hits > expected {
        if of - hits < hits { sum(hits, of) } else { 1.0 - sum(0.0, hits - 1.0) }
    } else {
        sum(0.0, hits)
    };
    // For very small tails the difference from 1 is lost in rounding: the terms are summed instead.
    let tail = if hits > expected && tail < 1e-9 { sum(hits, of.min(hits + 1000.0)) } else { tail };
    (2.0 * tail).clamp(0.0, 1.0)
}

/// The q-value of each p-value, in the same order.
pub fn q_values(probabilities: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let mut q_values = vec![1.0; probabilities.len()];
    let mut least = 1.0f64;
    for (at, row) in order.into_iter().enumerate() {
        let rank = probabilities.len() - at;
        least = least.min(probabilities[row] * probabilities.len() as f64 / rank as f64);
        q_values[row] = least;
    }
    q_values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn near(got: f64, expected: f64, tolerance: f64) {
        assert!((got - expected).abs() <= tolerance, "{got} is not {expected}");
    }

    /// Table II of Newcombe's paper, method 10.
    #[test]
    fn intervals_match_the_paper() {
        for (new, base, low, high) in [
            ((56.0, 70.0), (48.0, 80.0), 0.0524, 0.3339),
            ((9.0, 10.0), (3.0, 10.0), 0.1705, 0.8090),
            ((6.0, 7.0), (2.0, 7.0), 0.0582, 0.8062),
            ((5.0, 56.0), (0.0, 29.0), -0.0381, 0.1926),
            ((0.0, 10.0), (0.0, 20.0), -0.1611, 0.2775),
            ((10.0, 10.0), (0.0, 10.0), 0.6075, 1.0),
        ] {
            let (got_low, got_high) = interval(Share::new(base.0, base.1), Share::new(new.0, new.1), Z_95);
            near(got_low, low, 0.00006);
            near(got_high, high, 0.00006);
        }
    }

    #[test]
    fn wilsons_interval_stays_between_0_and_1() {
        let (low, high) = Share::new(10.0, 10.0).wilson(Z_95);
        // 1 / (1 + z² / 10).
        near(low, 0.722_467, 1e-6);
        near(high, 1.0, 1e-12);
        // 81 of 263: the example of Newcombe's paper on single proportions.
        let (low, high) = Share::new(81.0, 263.0).wilson(Z_95);
        near(low, 0.2553, 0.00006);
        near(high, 0.3662, 0.00006);
    }

    #[test]
    fn p_values_match_known_tests() {
        near(two_sided(1.96), 0.049_995_8, 1e-6);
        near(two_sided(5.0), 5.733e-7, 1e-9);
        // 56/70 against 48/80: z = 2.6501, reduced by the square root of 149/150.
        near(probability(Share::new(48.0, 80.0), Share::new(56.0, 70.0)), 0.008_266, 2e-5);
        // Three of three on one of two equal profiles: 2 · 1/8.
        near(probability(Share::new(0.0, 1000.0), Share::new(3.0, 1000.0)), 0.25, 1e-9);
        // Ten of ten: 2 / 1024.
        let ten = probability(Share::new(0.0, 1e6), Share::new(9.0, 1e6));
        near(ten, 2.0 / 512.0, 1e-9);
        // Four in a small profile, none in one a hundred times as large: 2 · (1/101)^4.
        let four = probability(Share::new(0.0, 100_000.0), Share::new(4.0, 1000.0));
        near(four / (2.0 * (1.0f64 / 101.0).powi(4)), 1.0, 1e-6);
        assert_eq!(probability(Share::new(0.0, 0.0), Share::new(3.0, 10.0)), 1.0);
        near(probability(Share::new(30.0, 100.0), Share::new(30.0, 100.0)), 1.0, 1e-12);
    }

    #[test]
    fn students_distribution_matches_its_tables() {
        for (t, freedom, expected) in
            [(2.306, 8.0, 0.05), (12.706, 1.0, 0.05), (5.041, 8.0, 0.001), (1.0, 1.0, 0.5)]
        {
            near(student_two_sided(t, freedom), expected, 2e-5);
        }
        near(student_two_sided(1.96, 1e7), 0.05, 1e-4);
        assert_eq!(student_two_sided(0.0, 5.0), 1.0);
    }

    #[test]
    fn a_share_near_1_is_tested_by_its_complement() {
        let (most, all) = (Share::new(997.0, 1000.0), Share::new(1000.0, 1000.0));
        near(probability(most, all), 0.25, 1e-9);
    }

    #[test]
    fn q_values_match_the_method() {
        // Computed by hand: p · m / rank, not greater than the next one.
        let q_values = q_values(&[0.01, 0.04, 0.03, 0.005, 0.5]);
        for (got, expected) in q_values.iter().zip([0.025, 0.05, 0.05, 0.025, 0.5]) {
            near(*got, expected, 1e-12);
        }
    }

    #[test]
    fn unequal_weights_reduce_the_effective_size() {
        // 100 samples of weight 1, 30 of them hits: unchanged.
        near(Share::weighted(30.0, 30.0, 100.0, 100.0).of, 100.0, 1e-9);
        // The same share, but one sample has weight 30.
        let share = Share::weighted(30.0, 900.0, 100.0, 970.0);
        near(share.part, 0.3, 1e-12);
        assert!(share.of < 6.0, "{share:?}");
        // A scale does not matter.
        let one = Share::weighted(5.0, 9.0, 40.0, 100.0);
        let other = Share::weighted(50.0, 900.0, 400.0, 10_000.0);
        near(one.of, other.of, 1e-9);
        near(Share::weighted(0.0, 0.0, 50.0, 50.0).of, 50.0, 1e-9);
    }
}
