//! The rules of the keys, as sentences.

mod guard;
mod logs;
mod mouse;
mod panels;
mod table;
