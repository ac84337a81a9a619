"""What each problem has come to, and what it is asked next."""
