"""Users: registration, login, and the welcome email."""
