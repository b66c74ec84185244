"""Room: gates. Each decides from evidence whether a candidate passes, with reasons; each fails closed."""
