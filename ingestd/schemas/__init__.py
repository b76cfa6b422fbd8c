"""What a valid event is: one file per kind of schema, ``load`` to choose one."""
