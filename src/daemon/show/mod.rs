//! What a screen is told: the deck's picture of the fleet, and what each page of it needs.

pub(in crate::daemon) mod advice;
pub mod briefs;
pub mod detail;
pub mod facts;
pub mod history;
pub mod publish;
