//! Reads the configuration: file → settings, with every mistake of a file in one run.

pub mod settings;
