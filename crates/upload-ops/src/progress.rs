//! How far a long command is: one line on a terminal, which each report replaces. Nothing is written to a file or a log.

use std::io::{IsTerminal as _, Write as _, stderr};

/// The line. It ends when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    is_begun: bool,
}

impl Progress {
    pub(crate) fn show(&mut self, text: &str) {
        let mut screen = stderr();
        if screen.is_terminal() {
            self.is_begun = true;
            // The command itself does not depend on its terminal.
            let _not_shown = write!(screen, "\r{text}\x1b[K").and_then(|()| screen.flush());
        }
    }

    /// Takes the line away, for lines on stdout.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            let mut screen = stderr();
            let _not_shown = write!(screen, "\r\x1b[K").and_then(|()| screen.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_begun {
            let _not_shown = writeln!(stderr());
        }
    }
}
