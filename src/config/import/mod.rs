//! Configurations of other programs, read and written down as one of ours.
//!
//! What comes out is a beginning: it has no mistakes, it starts nothing, and comments say what is still to
//! be filled in and what could not be carried over.

mod directives;
mod nginx;

pub use nginx::nginx;
