//! The screens. A snapshot is reviewed like code.

mod cost;
mod fronted;
mod logs;
mod pages;
mod rollout;
mod table;
mod whole;
