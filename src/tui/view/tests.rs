//! The screens. A snapshot is reviewed like code.

mod cost;
mod fronted;
mod pages;
mod table;
mod whole;
