//! The recommendation: the first fact that decides, in an order in which a fact outweighs all that follow.

use super::{
    LONGEST_WAIT_SECONDS,
    evidence::{Evidence, Side},
    money,
};
use crate::report::spread::{grouped, number, trimmed};

/// A day's difference in CPU time below which it decides nothing, in seconds: one percent of one CPU.
const NEGLIGIBLE_CPU_SECONDS: f64 = 864.0;

/// What to deploy.
struct Verdict {
    deploy: &'static str,
    because: Vec<String>,
    otherwise: &'static str,
}

/// When V1 would be right.
const V1_WOULD_BE: &str =
    "V1 would be right if clients must not reach the bucket, or if no content may get into it before it was looked at.";
/// When V2 would be right.
const V2_WOULD_BE: &str = "V2 would be right if clients may reach the bucket and are many or slow, since their bytes \
    then pass by the server.";

/// The recommendation, in lines.
pub(super) fn lines(evidence: &Evidence) -> Vec<String> {
    let reach = if evidence.question.private_bucket {
        "Clients cannot reach the bucket. V2 needs that to upload; V1 only to read, for which a cache in front of \
         the bucket is enough."
    } else {
        "With V2, clients must reach the bucket to upload (from browsers with CORS); with V1 only to read."
    };
    let verdict = decide(evidence);
    let mut lines =
        vec![String::new(), reach.to_owned(), String::new(), format!("Recommendation: {}.", verdict.deploy)];
    lines.extend(verdict.because.into_iter().map(|fact| format!("  {fact}")));
    lines.push(verdict.otherwise.to_owned());
    lines
}

fn decide(evidence: &Evidence) -> Verdict {
    let (streaming, presigned) = (streaming_fails(evidence), presigned_fails(evidence));
    if evidence.question.private_bucket {
        let mut because =
            vec!["It decides that clients cannot reach the bucket: V2 cannot work without that.".to_owned()];
        because.extend(streaming.map(|reason| format!("Take care: {reason}")));
        return Verdict { deploy: "deploy V1", because, otherwise: V2_WOULD_BE };
    }
    match (streaming, presigned) {
        (Some(v1), Some(v2)) => Verdict {
            deploy: "neither as measured; put more servers or a larger store behind it, and measure again",
            because: vec![v1, v2],
            otherwise: V1_WOULD_BE,
        },
        (Some(reason), None) => {
            Verdict { deploy: "deploy V2", because: vec![reason, cpu(evidence)], otherwise: V1_WOULD_BE }
        }
        (None, Some(reason)) => Verdict { deploy: "deploy V1", because: vec![reason], otherwise: V2_WOULD_BE },
        (None, None) => by_price(evidence).unwrap_or_else(|| by_cpu(evidence)),
    }
}

/// Why V1 does not serve the peak, if it does not.
fn streaming_fails(evidence: &Evidence) -> Option<String> {
    let peak = grouped(evidence.question.peak.into());
    let refused = evidence.refused_at_the_door();
    if refused > 0 {
        return Some(format!("V1 would answer {} of the {peak} images of the peak with 503.", grouped(refused)));
    }
    let seconds = evidence.streaming_peak_seconds()?;
    if seconds > LONGEST_WAIT_SECONDS as f64 {
        return Some(format!(
            "V1 would need {} s for the peak and lets no upload wait longer than {LONGEST_WAIT_SECONDS} s.",
            number(seconds)
        ));
    }
    failed(evidence, &evidence.streaming)
}

/// Why V2 does not serve the peak, if it does not.
fn presigned_fails(evidence: &Evidence) -> Option<String> {
    failed(evidence, &evidence.presigned)
}

fn failed(evidence: &Evidence, side: &Side) -> Option<String> {
    let images = grouped(evidence.images.into());
    side.row
        .stops()
        .then(|| format!("{} did not serve every image when {images} came at once in the report.", side.name))
}

fn by_price(evidence: &Evidence) -> Option<Verdict> {
    let (streaming, presigned) =
        (evidence.price_per_day(&evidence.streaming)?, evidence.price_per_day(&evidence.presigned)?);
    // Equal prices decide nothing.
    let difference = (streaming - presigned).abs();
    if difference <= 0.01 * streaming.max(presigned) {
        return None;
    }
    let prices = format!("What has a price costs {} a day with V1 and {} with V2.", money(streaming), money(presigned));
    let because = vec![prices, cpu(evidence)];
    Some(if presigned < streaming {
        Verdict { deploy: "deploy V2", because, otherwise: V1_WOULD_BE }
    } else {
        Verdict { deploy: "deploy V1", because, otherwise: V2_WOULD_BE }
    })
}

fn by_cpu(evidence: &Evidence) -> Verdict {
    let (streaming, presigned) =
        (evidence.cpu_seconds_per_day(&evidence.streaming), evidence.cpu_seconds_per_day(&evidence.presigned));
    if streaming - presigned > NEGLIGIBLE_CPU_SECONDS {
        Verdict { deploy: "deploy V2", because: vec![cpu(evidence)], otherwise: V1_WOULD_BE }
    } else {
        let same = "Both serve the peak, and the difference in CPU time is below one percent of one CPU.".to_owned();
        let simple = "Then V1 is the simpler of the two: clients reach one address, and wrong content never gets \
            into the bucket."
            .to_owned();
        Verdict { deploy: "deploy V1", because: vec![same, simple], otherwise: V2_WOULD_BE }
    }
}

fn cpu(evidence: &Evidence) -> String {
    let per_day = |side: &Side| number(evidence.cpu_seconds_per_day(side) / 3600.0);
    let ratio = evidence.cpu_seconds_per_day(&evidence.streaming) / evidence.cpu_seconds_per_day(&evidence.presigned);
    format!(
        "V1's server uses {} CPU-hours a day and V2's {}: {} times.",
        per_day(&evidence.streaming),
        per_day(&evidence.presigned),
        trimmed(ratio)
    )
}
