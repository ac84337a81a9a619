"""What each prompt has come to, and what it is asked next."""
