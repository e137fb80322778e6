//! The store
