//! rbee-api
