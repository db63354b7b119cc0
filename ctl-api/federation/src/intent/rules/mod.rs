//! What must hold over all objects of an intent; a file for each concern.
