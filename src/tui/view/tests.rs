//! The screens. A snapshot is reviewed like code.

mod cost;
mod fronted;
mod logs;
mod pages;
mod table;
mod whole;
