//! The RIB: declared objects, import by route target, and their compilation into forwarding tables.
