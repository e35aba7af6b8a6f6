//! Progress on stderr: one line for each round, as `name=value`.

use crate::{
    record::{Case, Ending, Line, Run},
    report::targets,
};

/// Prints a message.
pub fn say(text: &str) {
    eprintln!("upload-bench: {text}");
}

/// Prints the result of a round, and how many of all rounds are done.
pub fn show_round(run: &Run, done: usize, of: usize) {
    let (target, load) = (targets::name(run.target), &run.load);
    let mut line = format!("done={done}/{of} ");
    if run.case != Case::Burst {
        let Line { bytes_per_second, rtt_ms } = run.line;
        let rate = bytes_per_second.map_or_else(|| "unlimited".to_owned(), |rate| rate.to_string());
        line += &format!(
            "case={} image_bytes={} bytes_per_second={rate} rtt_ms={rtt_ms} ",
            targets::case(run.case),
            run.image_bytes
        );
    }
    line += &format!(
        "images={} round={} target={target} store={:?} successes={} makespan_ms={:.0}",
        run.images, run.round, run.store, load.successes, load.makespan_ms
    );
    if let Some(beside) = &run.beside {
        line += &format!(
            " slow={} slow_successes={} slow_makespan_ms={:.0} alone_makespan_ms={:.0}",
            beside.slow_images, beside.slow.successes, beside.slow.makespan_ms, beside.alone.makespan_ms
        );
    }
    if let Some(server) = &run.server {
        let cpu = server.cpu_user_ms + server.cpu_system_ms;
        line += &format!(" server_cpu_ms={cpu:.0} peak_rss_mb={}", server.peak_rss_bytes / 1_000_000);
    }
    match &run.ending {
        Ending::Finished => {}
        Ending::Hung { after_ms } => line += &format!(" ended=\"hung: no progress for {after_ms} ms\""),
        Ending::Died { status } => line += &format!(" ended=\"died: {status}\""),
        Ending::Void { reason } => line += &format!(" ended=\"void: {reason}\""),
    }
    let slow = run.beside.iter().flat_map(|beside| &beside.slow.failures);
    for (class, count) in load.failures.iter().chain(slow) {
        line += &format!(" failed=\"{count} x {class}\"");
    }
    eprintln!("{line}");
}
