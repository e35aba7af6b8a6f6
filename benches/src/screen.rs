//! Progress on stderr: one line for each round, as `name=value`.

use crate::{
    record::{Ending, Run},
    report::targets,
};

/// Prints a message.
pub fn say(text: &str) {
    eprintln!("upload-bench: {text}");
}

/// Prints the result of a round.
pub fn show_round(run: &Run) {
    let (target, load) = (targets::name(run.target), &run.load);
    let mut line = format!(
        "images={} round={} target={target} store={:?} successes={} makespan_ms={:.0}",
        run.images, run.round, run.store, load.successes, load.makespan_ms
    );
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
    for (class, count) in &load.failures {
        line += &format!(" failed=\"{count} x {class}\"");
    }
    eprintln!("{line}");
}
