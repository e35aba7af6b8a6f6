//! V1's own work on an upload: its ticket, once, and its form, byte by byte.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use chrono::Utc;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use upload_domain::{ImageFormat, ImageId, ImageLimits};
use upload_sandbox::samples;
use upload_v1_streaming::for_benches::{Ticket, TicketKey, read_form};
use uuid::Uuid;

const IMAGE_BYTES: usize = 5_000_000;
const BOUNDARY: &str = "------------------------d74496d66958873e";
/// What actix reads from a socket at once, when there is enough.
const CHUNK_BYTES: usize = 64 * 1024;

fn ticket(criterion: &mut Criterion) {
    let key = TicketKey::new(&[7; 32]);
    let now = Utc::now();
    let image = ImageId::from(Uuid::now_v7());
    let expires_at = now + Duration::from_secs(300);
    let ticket = Ticket::new(image, ImageFormat::Jpeg, Some(5_000_000), None, &ImageLimits::default(), expires_at);
    let text = key.sign(&ticket).unwrap();
    criterion.bench_function("sign a ticket", |bencher| bencher.iter(|| key.sign(black_box(&ticket)).unwrap()));
    criterion.bench_function("check a ticket", |bencher| bencher.iter(|| key.check(black_box(&text), now).unwrap()));
}

fn form(criterion: &mut Criterion) {
    // The parser's futures stay on their thread, as under actix.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let mut group = criterion.benchmark_group("read a form");
    group.sample_size(20);
    for (name, file) in [
        ("random bytes", samples::jpeg_of_exactly(IMAGE_BYTES, 5)),
        // The worst for a parser that looks at each line end.
        ("line ends", b"\r\n".repeat(IMAGE_BYTES / 2)),
    ] {
        let chunks = chunks(&file);
        let read = |chunks: Vec<Bytes>| runtime.block_on(read_form(&content_type, chunks)).unwrap();
        assert_eq!(read(chunks.clone()), IMAGE_BYTES as u64);
        group.throughput(Throughput::Bytes(IMAGE_BYTES as u64));
        group.bench_function(name, |bencher| bencher.iter_batched(|| chunks.clone(), read, BatchSize::SmallInput));
    }
    group.finish();
}

/// A form that is nothing but the file, as a socket gives it.
fn chunks(file: &[u8]) -> Vec<Bytes> {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"image.jpg\"\r\n\
         Content-Type: image/jpeg\r\n\r\n"
    );
    let form = Bytes::from([head.as_bytes(), file, format!("\r\n--{BOUNDARY}--\r\n").as_bytes()].concat());
    (0..form.len()).step_by(CHUNK_BYTES).map(|from| form.slice(from..form.len().min(from + CHUNK_BYTES))).collect()
}

criterion_group!(benches, ticket, form);
criterion_main!(benches);
