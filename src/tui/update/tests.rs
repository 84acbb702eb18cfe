//! The rules of the keys, as sentences.

mod guard;
mod mouse;
mod panels;
mod table;
