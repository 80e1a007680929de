"""Who may call, how often, and for whose documents."""
