//! The file under attack.
