//! V2's share of an upload that scales with nothing but their number: signing a form. No store is asked.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::{hint::black_box, time::Duration};

use chrono::Utc;
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use upload_domain::{ImageFormat, ImageId};
use upload_sandbox::Sandbox;
use upload_storage::{FormRequest, Signer};
use uuid::Uuid;

fn forms(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let sandbox = runtime.block_on(Sandbox::start()).unwrap();
    let stand = runtime.block_on(sandbox.stand());
    let signer = runtime.block_on(Signer::new(&stand.storage_settings, &stand.signer_settings)).unwrap();
    let now = Utc::now();
    let request = FormRequest {
        image: ImageId::from(Uuid::now_v7()),
        format: ImageFormat::Jpeg,
        min_bytes: 5_000_000,
        max_bytes: 5_000_000,
        checksum_sha256: None,
        now,
        // Far enough away for all iterations, since signing judges only what it is given.
        expires_at: now + Duration::from_secs(300),
    };
    criterion.bench_function("sign a POST form", |bencher| {
        bencher.iter(|| runtime.block_on(signer.post_form(black_box(&request))).unwrap());
    });
    criterion.bench_function("sign a PUT form", |bencher| {
        bencher.iter(|| runtime.block_on(signer.put_form(black_box(&request))).unwrap());
    });
}

criterion_group!(benches, forms);
criterion_main!(benches);
