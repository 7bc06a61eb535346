//! What can be read from the text of the project.
