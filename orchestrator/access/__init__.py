"""Who may use the studio."""
