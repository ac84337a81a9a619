"""Built-in programming problems with unit tests, one file of families a topic."""
