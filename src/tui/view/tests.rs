//! The screens. A snapshot is reviewed like code.

mod config;
mod cost;
mod detail;
mod events;
mod footer;
mod fronted;
mod logs;
mod pages;
mod rollout;
mod rows;
mod sizes;
mod states;
mod table;
mod whole;
