//! Profile to answer: everything that reads a profile and says something about it.
//!
//! Not here: processes, files, the terminal. A report is a pure function of a profile.
