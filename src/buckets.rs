//! Logarithmic buckets for latencies: any number of them in a few kilobytes.
//!
//! Each power of two has as many buckets as the scale says, so a percentile is above the truth by at most one part
//! in so many, and never below it. (HdrHistogram is the same idea in a crate; this is what is needed of it.)

/// How values are spread over buckets.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Two to the power of this are the buckets of each power of two.
    bits: u32,
    /// Two to the power of this is the first value that is too large; it counts in the last bucket.
    top: u32,
}

impl Scale {
    pub const fn new(bits: u32, top: u32) -> Self {
        Self { bits, top }
    }

    /// How many buckets there are.
    pub const fn count(self) -> usize {
        ((self.top - self.bits + 1) as usize) << self.bits
    }

    pub fn bucket(self, value: u64) -> usize {
        if value < 1 << self.bits {
            return value as usize;
        }
        let shift = value.ilog2() - self.bits;
        let index = (u64::from(shift) << self.bits) + (value >> shift);
        usize::try_from(index).unwrap_or(usize::MAX).min(self.count() - 1)
    }

    /// The value that `percent` of all `count` do not exceed: the largest of its bucket; zero without any.
    pub fn percentile(self, buckets: &[u64], count: u64, percent: u64) -> u64 {
        let rank = (count * percent).div_ceil(100);
        let mut seen = 0;
        for (index, count) in buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return self.upper_end(index);
            }
        }
        0
    }

    /// The largest value of a bucket.
    fn upper_end(self, bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < 1 << self.bits {
            return bucket;
        }
        let shift = (bucket >> self.bits) - 1;
        ((bucket - (shift << self.bits) + 1) << shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALE: Scale = Scale::new(6, 40);

    #[test]
    fn what_is_too_large_is_in_the_last_bucket() {
        assert_eq!(SCALE.bucket((1 << 40) - 1), SCALE.count() - 1);
        assert_eq!(SCALE.bucket(u64::MAX), SCALE.count() - 1);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(value in 0u64..1 << 40) {
            let index = SCALE.bucket(value);
            prop_assert!(index < SCALE.count());
            prop_assert!(SCALE.upper_end(index) >= value);
            prop_assert!(index == 0 || SCALE.upper_end(index - 1) < value);
        }
    }
}
