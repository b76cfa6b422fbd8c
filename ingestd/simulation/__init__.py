"""The whole pipeline on virtual time, with scripted network, disk and crashes, all from one seed."""
