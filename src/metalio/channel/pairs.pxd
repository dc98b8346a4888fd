# Compiled for the sake of the constructors that it calls, which exist in C only.
