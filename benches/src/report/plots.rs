//! The plots.
