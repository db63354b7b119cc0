//! TCP maximum segment size.
