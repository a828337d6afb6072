//! hive-lifecycle
