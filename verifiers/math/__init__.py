"""When two mathematical answers are the same."""
