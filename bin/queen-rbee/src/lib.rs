//! queen-rbee: the orchestrator. Decides which hive runs what, keeps that over restarts, and streams inference
//! requests straight to workers.
//!
//! ```text
//!   keeper ──api──▶ orders ─┐                        ┌─▶ store (SQLite)
//!   hive ───api──▶ leases ──┴▶ fleet ─▶ placement ───┤
//!                              (pure)    desired     └─▶ registry: watch<View> ─┬▶ hive's long poll (assignment)
//!                                                                               ├▶ verbs that wait (settle)
//!   client ──gateway─▶ request ─▶ dispatch ─▶ relay ◀── routes ─────────────────┘
//!                                     └─▶ worker
//! ```

pub mod activity;
pub mod api;
pub mod cli;
pub mod desired;
pub mod events;
pub mod fleet;
pub mod gateway;
pub mod hives;
pub mod lease;
pub mod lock;
pub mod metrics;
pub mod once;
pub mod orders;
pub mod placement;
pub mod queen;
pub mod registry;
pub mod reload;
pub mod rolling;
pub mod routes;
pub mod settle;
pub mod stopping;
pub mod store;
pub mod upgrade;
pub mod upkeep;
