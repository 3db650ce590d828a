"""The tests, a package so that fakes can be imported by their full name."""
