//! Memory over time: a sample every 50 ms, and fewer when there are too many.

use crate::record::MemorySample;

/// The largest number of samples.
const MOST_SAMPLES: usize = 600;

/// The samples so far. When there are too many, every second one is dropped, and from then on every second one is taken.
#[derive(Debug)]
pub(super) struct Samples {
    kept: Vec<MemorySample>,
    stride: u64,
    seen: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Self { kept: Vec::new(), stride: 1, seen: 0 }
    }
}

impl Samples {
    pub(super) fn add(&mut self, sample: MemorySample) {
        if self.seen.is_multiple_of(self.stride) {
            self.kept.push(sample);
        }
        self.seen += 1;
        if self.kept.len() == MOST_SAMPLES {
            let mut keep = false;
            self.kept.retain(|_sample| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
    }

    pub(super) fn take(&mut self) -> Vec<MemorySample> {
        std::mem::take(self).kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_samples_are_thinned_evenly() {
        let mut samples = Samples::default();
        for at_ms in (0..100_000).map(|sample| sample * 50) {
            samples.add(MemorySample { at_ms, rss_bytes: 0, cgroup_bytes: None });
        }
        let kept = samples.take();
        assert!((MOST_SAMPLES / 2..MOST_SAMPLES).contains(&kept.len()), "{}", kept.len());
        let steps: Vec<u64> = kept.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).collect();
        assert!(steps.iter().all(|step| *step == steps[0]), "{steps:?}");
        assert_eq!(kept.first().map(|sample| sample.at_ms), Some(0));
    }
}
