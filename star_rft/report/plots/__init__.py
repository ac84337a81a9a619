"""The plots of the report, one topic a file."""
