//! The rules of the keys, as sentences.

mod guard;
mod panels;
mod table;
