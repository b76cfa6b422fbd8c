"""What a command does. It returns a result and prints nothing: commands, admin address and tests call it."""
